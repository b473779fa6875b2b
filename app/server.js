'use strict';
const { MongoClient } = require('mongodb');
const createApp = require('./lib/app');

function required(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set: it is required in the environment`);
    process.exit(1);
  }
  return value;
}

async function main() {
  const port = Number(required('PORT'));
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new Error('PORT must be a number from 0 to 65535');
  }
  const client = new MongoClient(required('DB_CONNECTION_STRING'), {
    useNewUrlParser: true,
    useUnifiedTopology: true,
    retryWrites: true,
    readPreference: 'primaryPreferred',
    serverSelectionTimeoutMS: 5000,
    connectTimeoutMS: 5000,
    // Longer than any query may take. A host that lost its power never ends its connections.
    socketTimeoutMS: 3000,
    appname: 'phoenix-app'
  });
  await client.connect();
  const requests = client.db().collection('requests');
  // A missing index slows the page down, but does not break it: there may be no primary yet.
  requests.createIndex({ time: -1 }).catch(e => console.error(`index not made: ${e.message}`));
  const server = createApp(requests).listen(port, () => {
    console.log(`listening on port ${server.address().port}`);
  });
  server.on('error', fail);
}

function fail(error) {
  console.error(`cannot start: ${error.message}`);
  process.exit(1);
}

main().catch(fail);
