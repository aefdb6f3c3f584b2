// What a connection may do (access control) and as whom. Without a list everybody may do everything but publish to the
// broker's own topics.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/acl.h"
#include "core/identity.h"
#include "mqtt/packet.h"

struct connection;
struct message;
struct shard;

// Of a connection; `connection->access`, NULL: an anonymous client, and no list.
struct access;

// CONNECT, when it is known who the client is. ERR_NO_MEMORY.
CHECK_RESULT enum status access_open(struct connection *connection, const struct identity *identity, struct span client_id);
void access_close(struct connection *connection);

const struct identity *
access_identity(const struct connection *connection);  // NULL: anonymous, without anything that is known

// Whether it may. Counts and logs what is denied, and what a list on trial would deny.
bool access_may_publish(struct connection *connection, struct span topic, uint64_t topic_hash, uint8_t qos, bool retain);
bool access_may_subscribe(struct connection *connection, struct span filter,
                          uint8_t *qos);  // *qos: lowered to what is granted
bool access_may_receive(struct connection *connection, const struct message *message);

// The same as access_may_receive, for the choice among several: nothing is counted or logged.
bool access_could_receive(struct connection *connection, const struct message *message);

// The same as access_may_publish for a will whose client is gone.
bool access_may_send_will(struct shard *shard, const struct identity *identity, struct span client_id,
                          const struct message *message);

// A new list, for all connections, from now on: views are made anew, decisions forgotten. NULL: none. Takes its own
// reference. Subscriptions that it does not allow stay; what they bring is asked about at delivery, as always.
void access_set_list(struct shard *shard, struct acl *acl);
