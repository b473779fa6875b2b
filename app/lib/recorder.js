'use strict';
const PAUSE_MS = 100;
const pause = () => new Promise(resolve => setTimeout(resolve, PAUSE_MS));

/**
 * A function that records a document and returns at once: the first is written immediately, and those that arrive
 * during that write and a pause are written together in the next one. A write for each request costs a busy
 * database's members far more than the documents themselves.
 */
module.exports = function createRecorder(collection) {
  let waiting = [];
  let writing = false;

  async function write() {
    writing = true;
    while (waiting.length) {
      const batch = waiting;
      waiting = [];
      try {
        await collection.insertMany(batch, { ordered: false });
      } catch (error) {
        console.error(`${batch.length} requests not recorded: ${error.message}`);
      }
      await pause();
    }
    writing = false;
  }

  return document => {
    waiting.push(document);
    if (!writing) write();
  };
};
