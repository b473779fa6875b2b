// Turns the one server that the tests run against into a replica set: node initiate.js HOST:PORT, in a folder with node_modules/mongodb.
'use strict';
const { MongoClient } = require(require.resolve('mongodb', { paths: [process.cwd()] }));
const host = process.argv[2];
const options = { useNewUrlParser: true, useUnifiedTopology: true, serverSelectionTimeoutMS: 30000 };
(async () => {
  const alone = await MongoClient.connect(`mongodb://${host}/?directConnection=true`, options);
  await alone.db('admin').command({ replSetInitiate: { _id: 'test', members: [{ _id: 0, host }] } });
  await alone.close();
  const set = await MongoClient.connect(`mongodb://${host}/?replicaSet=test`, options);
  await set.close();
})().catch(e => { console.error(e.message); process.exit(1); });
