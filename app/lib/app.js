'use strict';
const express = require('express');
const certificate = require('./certificate');
const page = require('./page');
const createRecorder = require('./recorder');

const NEWEST = 10;
const TIMEOUT_MS = 2000;

module.exports = function createApp(requests) {
  const app = express();
  const record = createRecorder(requests);
  app.disable('x-powered-by');
  // Only proxies on private addresses may name the client.
  app.set('trust proxy', 'loopback, linklocal, uniquelocal');

  // Recording is not awaited: a database without a primary must not delay the answer.
  app.use((req, res, next) => {
    record({ time: new Date(), method: req.method, path: req.path.slice(0, 1024), address: req.ip });
    next();
  });

  app.get('/', async (req, res) => {
    let data = null;
    try {
      const [count, newest] = await Promise.all([
        requests.estimatedDocumentCount({ maxTimeMS: TIMEOUT_MS }),
        requests.find({}, { maxTimeMS: TIMEOUT_MS }).sort({ time: -1 }).limit(NEWEST).toArray()
      ]);
      data = { count, newest };
    } catch (error) {
      console.error(`requests not read: ${error.message}`);
    }
    res.set('Cache-Control', 'no-store').send(page(data));
  });

  app.get('/crash', () => process.exit(1));

  // Synchronous: blocks the event loop while the key is being found.
  app.get('/generatecert', (req, res) => res.type('text/plain').send(certificate()));

  return app;
};
