// One exchange with mqtt.js, for test_foreign.py: node mqttjs.js URL VERSION TOPIC
// Subscribes with QoS 2, publishes at each QoS, waits until all have come back, and prints them as one line of JSON.
'use strict';

const mqtt = require('mqtt');

const [url, version, topic] = process.argv.slice(2);
const options = {
  protocolVersion: Number(version),
  protocolId: version === '3' ? 'MQIsdp' : 'MQTT',
  clientId: `mqttjs${process.pid}`,
  reconnectPeriod: 0,
  connectTimeout: 10000,
};
// No topic aliases: mqtt.js 5 hands QoS 2 messages that came by alias over without their topic.
if (version === '5') options.properties = { receiveMaximum: 5 };

const client = mqtt.connect(url, options);
const got = [];
let acknowledged = 0;

function endWhenComplete() {
  if (got.length < 3 || acknowledged < 3) return;
  client.end(false, {}, () => console.log(JSON.stringify(got)));
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

// The broker may close while acknowledgements are still under way to it: what counts has been said by then.
client.on('error', (error) => got.length < 3 && fail(error));
client.on('connect', () => {
  client.subscribe(topic, { qos: 2 }, (error, granted) => {
    if (error) fail(error);
    if (granted[0].qos !== 2) fail(`granted ${granted[0].qos}`);
    for (const qos of [0, 1, 2]) {
      const properties = version === '5' ? { properties: { contentType: 'text/plain', userProperties: { n: String(qos) } } } : {};
      client.publish(topic, `qos ${qos}`, { qos, ...properties }, (problem) => {
        if (problem) fail(problem);
        acknowledged += 1;
        endWhenComplete();
      });
    }
  });
});
client.on('message', (name, payload, packet) => {
  got.push({
    topic: name,
    payload: payload.toString(),
    qos: packet.qos,
    type: (packet.properties || {}).contentType || null,
    user: ((packet.properties || {}).userProperties || {}).n || null,
  });
  endWhenComplete();
});
