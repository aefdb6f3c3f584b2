// What the files of this folder share of a shard. Nobody outside src/core includes it.
#pragma once

#include "base/map.h"
#include "base/prng.h"
#include "base/wheel.h"
#include "core/access.h"
#include "core/connection.h"
#include "core/durable.h"
#include "core/index.h"
#include "core/owner.h"
#include "core/retained.h"
#include "core/session.h"
#include "core/share.h"
#include "core/shard.h"
#include "core/ticket.h"

enum {
  YIELD_COPIES = 16384,  // copies queued before output is written in between
  OUTGOING_HIGH = 4096,  // mails waiting for another shard: publishers pause
  OUTGOING_LOW = 1024,
  CONTROL_HIGH = 64 * 1024,  // unsent acknowledgements of a client that does not read them: it is not read from either
  LINGER_MS = 5000,          // how long a closing connection may take to write its last packet
  PAUSE_MS = 100,  // a publisher paused for memory or for a full queue goes on for one message this often: slow, not wedged
  LIVE_MS = 1000,  // a client that acknowledged something so lately is slow; else it is stuck
  SWEEP_MS = 1000,
  SWEEP_STEPS = 2000,
  LOOK_MS = 60 * 1000,  // how often absent clients' queues are looked at for what is too old
  CURSOR_STEPS = 1000,
};

struct outgoing {
  struct mail *mails;
  size_t first, count, capacity;
};

struct shard {
  struct shard_settings settings;
  struct limits limits[LIMIT_SETS];
  uint16_t limit_sets;          // how many of them, from the first, have been set
  uint16_t least_topic_levels;  // of all of them
  struct mono now;
  uint32_t now_s;  // the same in seconds, low bits
  struct pool pool;
  struct wheel wheel;
  struct index index;
  struct retained retained;
  struct map sessions;                                    // by client identifier
  struct map groups;                                      // owned here, by key
  struct map memberships;                                 // of our sessions, by number
  struct map owners;                                      // see owner.c
  struct map admissions;                                  // by connection
  struct map throttles;                                   // by connection
  struct map asking;                                      // admissions with a question that is out, by its ticket
  struct authentication *first_question, *last_question;  // not taken yet
  struct link connections;
  struct link attention;
  struct link paused;
  struct link tickets;
  struct timer sweep;
  struct timer look;  // at absent clients' queues
  struct prng prng;
  struct outgoing outgoing[SHARDS_MAX];
  void *homes[SHARDS_MAX];  // see message_free
  struct counters counters;
  struct journal journal;
  struct session **congested;  // see congestion.c
  uint32_t congested_count, congested_capacity;
  uint32_t congested_shards;  // a bit for each other shard that has some
  bool queues_reject;         // some limits have QUEUE_REJECT
  bool congestion_eased;      // since the last tick
  bool hit_congestion;        // by the message that is being routed
  uint64_t next_number;       // sessions, memberships, tickets
  uint32_t turn_copies;       // since output was last handled
  struct acl *acl;            // NULL: everybody may do everything; see access.h
  // Between connection_output and connection_sent.
  struct offer {
    struct connection *connection;
    struct span scratch;
    struct message *message;
    size_t message_at;
  } offer;
};

static inline const struct limits *connection_limits(const struct connection *connection)
{
  return &connection->shard->limits[connection->limits];
}

static inline const struct limits *session_limits(const struct session *session)
{
  return &session->shard->limits[session->limits];
}

static inline uint32_t remote_shards(const struct shard *shard)
{
  return ((1u << shard->settings.shard_count) - 1) & ~(1u << shard->settings.shard);
}

// A number that no other shard of the broker gives.
static inline uint64_t shard_number(struct shard *shard)
{
  return ++shard->next_number << 8 | shard->settings.shard;
}

// The shard that owns a client identifier: with a journal, of a session that does not outlive its connection.
uint8_t shard_owner(const struct shard *shard, struct span client_id);

// Queues a mail. `mail->from` is set here. When memory is short the process cannot keep its promises: aborts.
void shard_send_mail(struct shard *shard, uint8_t target, struct mail mail);

// The retained store has something that may expire: look through it from time to time.
void shard_want_sweep(struct shard *shard);

// There is a durable session: look after its queue while it is away.
void shard_want_look(struct shard *shard);

// Counts and logs that the retained store has no room for a message, which goes to who is subscribed all the same.
void shard_not_retained(struct shard *shard, struct span client_id, struct span topic);

// Another shard takes the client over, because its session will be durable: what it has here ends (handle_connect.c).
void take_over_mail(struct shard *shard, struct mail *mail);

// Someone here subscribes to a filter, or no more: other shards learn of the first and the last (interest.c). The ticket is
// answered by each of them; 0: nobody waits.
void interest_add(struct shard *shard, struct filter_end *end, bool durable, uint64_t ticket);
void interest_sync(struct shard *shard, uint64_t ticket);  // answered when all know what was told before
void interest_remove(struct shard *shard, struct filter_end *end, bool durable);  // may free the end
void interest_mail(struct shard *shard, struct mail *mail);

// QoS 1 and 2 for clients that are slow but alive (congestion.c).
bool congestion_excuses(const struct session *session);  // may its queue grow over queue_messages?
void congestion_look(struct session *session);           // something was queued for it
void congestion_progress(struct session *session);       // it acknowledged something
void congestion_leave(struct session *session);          // harmless when it is not congested
void congestion_pause(struct connection *connection);
void congestion_mail(struct shard *shard, const struct mail *mail);
void congestion_tick(struct shard *shard);

// Above the memory limit; above the soft mark (three quarters).
bool shard_memory_full(const struct shard *shard);
bool shard_memory_tight(const struct shard *shard);

// Routes a message that starts here to local subscribers, groups and other shards, and stores it where that is wanted. Uses
// up the caller's reference. `retain`: store it, or clear. `packet_id` of QoS 2 is recorded with it as received from the
// publisher; 0: none. Returns whether anybody was interested.
bool route_message(struct shard *shard, struct message *message, const struct match *match, bool retain,
                   const struct session *publisher, uint16_t packet_id);

// The same for a topic that has not been looked up.
bool route_topic(struct shard *shard, struct message *message, bool retain);

// A message that another shard has routed to us.
void route_mail(struct shard *shard, const struct mail *mail);

// Whether a topic name or filter has more levels than are allowed; whether a name belongs to the broker: nobody else
// publishes to it.
bool topic_is_too_deep(const struct connection *connection, struct span text);
static inline bool topic_too_deep(const struct connection *connection, struct span text)
{
  return text.size >= connection->shard->least_topic_levels && topic_is_too_deep(connection, text);
}
bool topic_reserved(struct span topic);

// What of a session expiry a client gets; counts it when that is less.
uint32_t granted_expiry(const struct connection *connection, uint32_t wanted_s);

static inline void count_fault(struct shard *shard, enum mqtt_reason reason)
{
  shard->counters.faults[(unsigned)reason & 0xff]++;
}
