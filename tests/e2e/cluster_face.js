// A cluster client from npm against the cluster face: sets and gets 1,000 keys one by one and 1,000 in pipelines,
// through one address, and reads from replicas. usage: node cluster_face.js MODULES HOST PORT
'use strict';
const path = require('path');
const [modules, host, port] = process.argv.slice(2);
const { Cluster } = require(path.resolve(modules, 'ioredis'));
const KEYS = 1000;
const BATCH = 50;

function expect(what, want, got) {
  if (JSON.stringify(want) !== JSON.stringify(got)) throw new Error(`${what}: want ${want}, got ${got}`);
}

async function singly(client) {
  for (let i = 0; i < KEYS; i++) expect(`set ${i}`, 'OK', await client.set(`one${i}`, `value ${i}`));
  for (let i = 0; i < KEYS; i++) expect(`get ${i}`, `value ${i}`, await client.get(`one${i}`));
}

// Its pipelines are for one node: what they hold must be led there, so it takes keys of one hashtag.
async function piped(client) {
  for (let first = 0; first < KEYS; first += BATCH) {
    const sets = client.pipeline();
    const gets = client.pipeline();
    for (let i = first; i < first + BATCH; i++) {
      sets.set(`{batch${first}}${i}`, `piped ${i}`);
      gets.get(`{batch${first}}${i}`);
    }
    for (const [error, reply] of await sets.exec()) expect('piped set', [null, 'OK'], [error, reply]);
    const replies = await gets.exec();
    replies.forEach(([error, reply], i) => expect('piped get', [null, `piped ${first + i}`], [error, reply]));
  }
}

// ioredis takes a node for a master or for a replica and tells only the latter READONLY; here most are both. Followers
// may be behind: asked until they have it.
async function fromReplicas(client) {
  await client.get('one0').catch(() => null); // so that it knows the nodes
  await Promise.all(client.nodes('all').map((node) => node.readonly()));
  const end = Date.now() + 10000;
  for (let i = 0; i < 100; ) {
    const got = await client.get(`one${i}`);
    if (got === `value ${i}`) i++;
    else if (Date.now() > end) throw new Error(`a replica says ${got} for one${i}`);
  }
}

async function main() {
  const address = [{ host, port: Number(port) }];
  const client = new Cluster(address, { clusterRetryStrategy: () => null });
  const reader = new Cluster(address, { scaleReads: 'slave', clusterRetryStrategy: () => null });
  await singly(client);
  await piped(client);
  await fromReplicas(reader);
  expect('masters', true, client.nodes('master').length >= 1);
  expect('nodes', 3, client.nodes('all').length);
  client.disconnect();
  reader.disconnect();
}
main().then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
