// Shared subscriptions (5.0 section 4.8.2). A group (share name and filter) lives on the shard that its text hashes to,
// whatever the shards of its members: that shard alone chooses who gets a message. The member's shard keeps a membership.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "base/status.h"
#include "core/index.h"
#include "core/mail.h"

struct session;
struct shard;
struct message;

// On the owner's shard.
struct member {
  uint64_t membership;       // number, unique in the broker
  struct membership *local;  // of a client of this shard, whose queue can be looked at; else NULL
  uint32_t outstanding;      // least in flight, of another shard's: given and not yet credited
  uint8_t shard;
  uint8_t qos;
  bool online;
};

struct group {
  struct group *next_at_end, **link_at_end;
  struct filter_end *end;
  struct member *members;
  uint32_t count, capacity;
  uint32_t turn;    // round robin: who is next
  uint64_t hash;    // of the key
  uint32_t number;  // tells it from a later group of the same key
  char key[];       // "share/filter"
};

// On the member's shard.
struct membership {
  struct membership *next_in_session, **link_in_session;
  struct session *session;
  struct tag *tag;  // carries the subscription identifier and points back here
  uint64_t number;
  uint8_t owner;  // shard
  uint8_t qos;
  bool retain_as_published;
  char key[];
};

// Adds or replaces a membership. `key` is "share/filter". `ticket`: see ticket.h.
CHECK_RESULT enum status share_subscribe(struct session *session, const struct subscription *options, struct span key,
                                         uint64_t ticket, bool *out_new);
bool share_unsubscribe(struct session *session, struct span key);

// All groups of the session learn that it is there or away.
void share_set_online(struct session *session, bool online);

// The session ends: its groups forget it; then its copies can be returned to them; then the memberships are freed.
void share_leave_groups(struct session *session);
void share_free_memberships(struct session *session);

// A message matched the group: one member gets it.
void share_dispatch(struct shard *shard, struct group *group, struct message *message);

// Whether one more QoS 1 or 2 message of this size is too many for whoever could be chosen, and the publisher is to know
// (limits.queue_drop).
bool share_rejects(const struct shard *shard, const struct group *group, uint64_t topic_hash, size_t size);

// A QoS 1 or queued copy whose chosen member is gone: goes to another one. `key` of the membership.
void share_return(struct shard *shard, const char *key, struct message *message);

// A copy with this tag is complete: an owner on another shard may choose the member again (least in flight).
void share_credit(struct shard *shard, const struct tag *tag);

// Mails of the MAIL_SHARE_ kinds; takes what they refer to.
void share_mail(struct shard *shard, struct mail *mail);

// The name of a membership in the journal, and the tag of the session's membership with that name: NULL when there is none
// (any more).
uint32_t share_hash(const struct membership *membership);
struct tag *share_tag(const struct session *session, uint32_t hash);

// "share/filter" within "$share/share/filter".
struct span share_key(struct span text);

void share_free_groups(struct shard *shard);  // for shard_destroy
