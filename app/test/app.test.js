'use strict';
const assert = require('assert');
const http = require('http');
const net = require('net');
const path = require('path');
const { spawn } = require('child_process');
const { URL: Address } = require('url');
const { MongoClient } = require('mongodb');
const page = require('../lib/page');

const URL = process.env.DB_CONNECTION_STRING;
const running = new Set();

/** Starts the real server; env overrides; `port` resolves when it listens, `exit` with its status. */
function start(env) {
  const child = spawn(process.execPath, ['server.js'], {
    cwd: path.join(__dirname, '..'), env: Object.assign({}, process.env, { PORT: '0' }, env)
  });
  running.add(child);
  const server = { child, output: '' };
  server.exit = new Promise(resolve => child.on('close', code => { running.delete(child); resolve(code); }));
  server.port = new Promise(resolve => {
    const read = chunk => {
      server.output += chunk;
      const found = /listening on port (\d+)/.exec(server.output);
      if (found) resolve(Number(found[1]));
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
  });
  return server;
}

function get(port, target, headers) {
  return new Promise((resolve, reject) => {
    http.get({ port, host: '127.0.0.1', path: target, headers, agent: false }, res => {
      let body = '';
      res.on('data', chunk => { body += chunk; });
      res.on('end', () => resolve({ status: res.statusCode, body }));
    }).on('error', reject);
  });
}

async function eventually(check) {
  for (let i = 0; i < 50; i++) {
    const found = await check();
    if (found) return found;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  throw new Error('did not happen in 2.5 s');
}

describe('application', () => {
  let client, requests, server, port;
  before(async () => {
    assert(URL, 'DB_CONNECTION_STRING is not set: the tests need a real MongoDB');
    client = await MongoClient.connect(URL, { useNewUrlParser: true, useUnifiedTopology: true });
    requests = client.db().collection('requests');
    await requests.deleteMany({});
    server = start();
    port = await server.port;
  });
  after(async () => {
    running.forEach(child => child.kill('SIGKILL'));
    if (client) await client.close();
  });

  it('records requests and shows count and newest on GET /', async () => {
    await get(port, '/first');
    await eventually(() => requests.findOne({ path: '/first', method: 'GET' }));
    const answer = await get(port, '/');
    assert.strictEqual(answer.status, 200);
    assert(/id="count">[1-9]/.test(answer.body));
    assert(answer.body.includes('/first'));
  });
  it('records the address a proxy hands on', async () => {
    await get(port, '/proxied', { 'X-Forwarded-For': '192.0.2.7' });
    const found = await eventually(() => requests.findOne({ path: '/proxied' }));
    assert.strictEqual(found.address, '192.0.2.7');
  });
  it('records each of many requests at once', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, number) => get(port, `/many/${number}`)));
    const recorded = () => requests.distinct('path', { path: /^\/many\// });
    await eventually(async () => (await recorded()).length === 50);
    assert.strictEqual(await requests.countDocuments({ path: /^\/many\// }), 50);
  });
  it('escapes what it shows', () => {
    const html = page({ count: 1, newest: [{ time: new Date(), method: 'GET', path: '/<b>"\'&', address: 'x' }] });
    assert(html.includes('/&lt;b&gt;&quot;&#39;&amp;'));
  });
  it('says so when the data is unavailable', () => assert(page(null).includes('unavailable')));
  it('has an index on time', () => eventually(async () =>
    (await requests.indexes()).some(index => index.key.time === -1)));
  it('answers 404 for an unknown path', async () =>
    assert.strictEqual((await get(port, '/nothing')).status, 404));
  it('makes a 2048-bit key and certificate', async () => {
    const forge = require('node-forge');
    const { status, body } = await get(port, '/generatecert');
    assert.strictEqual(status, 200);
    const cert = forge.pki.certificateFromPem(body.slice(body.indexOf('-----BEGIN CERT')));
    assert.strictEqual(cert.publicKey.n.bitLength(), 2048);
  });
  it('ends with status 1 on GET /crash', async () => {
    await get(port, '/crash').then(() => assert.fail('answered'), error => assert(error.code));
    assert.strictEqual(await server.exit, 1);
  });
  it('ends with status 1 when the database is away at boot', async () => {
    const dead = start({ DB_CONNECTION_STRING: 'mongodb://127.0.0.1:1/phoenix' });
    assert.strictEqual(await dead.exit, 1);
    assert(dead.output.includes('cannot start'));
  });
  it('answers when the database falls silent without ending its connections', async () => {
    const server = new Address(URL.replace(/^mongodb:/, 'http:'));
    const pairs = [];
    const relay = net.createServer(near => {
      const far = net.connect(server.port, server.hostname);
      near.pipe(far).pipe(near);
      [near, far].forEach(end => end.on('error', () => {}));
      pairs.push([near, far]);
    });
    await new Promise(resolve => relay.listen(0, '127.0.0.1', resolve));
    const url = `mongodb://127.0.0.1:${relay.address().port}${server.pathname}?directConnection=true`;
    const one = start({ DB_CONNECTION_STRING: url });
    const there = await one.port;
    assert((await get(there, '/')).body.includes('id="count"'));
    pairs.forEach(([near, far]) => { near.unpipe(far); far.unpipe(near); });
    relay.removeAllListeners('connection');
    const answer = await get(there, '/');
    assert.strictEqual(answer.status, 200);
    assert(answer.body.includes('unavailable'));
    one.child.kill('SIGKILL');
    pairs.forEach(ends => ends.forEach(end => end.destroy()));
    relay.close();
  }).timeout(60000);
  ['PORT', 'DB_CONNECTION_STRING'].forEach(name => it(`names ${name} when it is missing`, async () => {
    const dead = start({ [name]: '' });
    assert.strictEqual(await dead.exit, 1);
    assert(dead.output.includes(`${name} is not set`));
  }));
});
