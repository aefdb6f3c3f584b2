// Where a message goes: the sessions of this shard, the shared groups that it owns, the other shards, the retained store.

#include <assert.h>

#include "core/shard_internal.h"

static bool deliver_to(struct shard *shard, const struct target *target, struct message *message)
{
  struct target own;
  if (target->no_local && message->origin == target->session->origin) {
    if (!index_own_target(&shard->index, message_topic(message), target->session, &own)) return false;
    target = &own;
  } else {
    tag_ref(target->tag);
  }
  uint8_t qos = message->qos < target->qos ? message->qos : target->qos;
  struct copy copy = {
      .message = message, .tag = target->tag, .qos = qos, .retain = target->retain_as_published && message->retain};
  session_deliver(target->session, &copy);
  tag_unref(target->tag);
  return true;
}

// Local sessions and groups. `match` becomes invalid when a group changes the index, so groups come last and one at a time.
static inline bool route_locally(struct shard *shard, struct message *message, const struct match *match)
{
  bool anybody = false;
  for (uint32_t i = 0; i < match->target_count; i++) anybody |= deliver_to(shard, &match->targets[i], message);
  for (uint32_t i = 0; i < match->group_count; i++) {
    share_dispatch(shard, match->groups[i], message);
    anybody = true;
  }
  return anybody;
}

static bool retain_here(struct shard *shard, struct message *message, uint64_t stamp)
{
  bool taken;
  if (retained_set(&shard->retained, message, stamp, &taken) != OK) return false;
  // What the broker says of itself is said anew by the next process. QoS 0 goes on while the disk takes nothing, but not
  // into more and more memory: a restart then brings back the value before.
  struct journal *journal = &shard->journal;
  bool spared = message->qos == 0 && journal->state != JOURNAL_OK && journal_heavy(journal);
  if (taken && journal->on && !spared && !topic_reserved(message_topic(message))) journal->message.store = true;
  if (shard->retained.mortal) shard_want_sweep(shard);
  return true;
}

bool route_message(struct shard *shard, struct message *message, const struct match *match, bool retain,
                   const struct session *publisher, uint16_t packet_id)
{
  uint32_t remote = match->remote & remote_shards(shard);
  uint64_t stamp = 0;
  if (retain) {
    remote = remote_shards(shard);
    stamp = retained_stamp(&shard->retained, shard->settings.shard, shard->now);
  }
  message->time_s = shard->now_s;
  if (remote) message_share(message);
  if (match->remote & remote_shards(shard) & shard->congested_shards) shard->hit_congestion = true;
  journal_route_begin(shard, message);
  bool anybody = route_locally(shard, message, match) || (match->remote & remote_shards(shard));
  if (retain) (void)retain_here(shard, message, stamp);
  journal_route_end(shard, publisher, packet_id);
  if (!remote) {
    message_unref(&shard->pool, message);
    return anybody;
  }
  // Each mail takes a reference; ours goes with one of them.
  message_ref(message, (uint32_t)__builtin_popcount(remote) - 1);
  bool stored = shard->settings.journal && (retain || (message->qos > 0 && match->remote_durable));
  for (uint8_t target = 0; remote; target++, remote >>= 1) {
    if ((remote & 1) == 0) continue;
    uint8_t flags = retain ? MAIL_RETAIN : 0;
    if (stored && target == JOURNAL_SHARD) {
      flags |= MAIL_COMMIT;
      shard->journal.wanted += message_size(message);
    }
    shard_send_mail(shard, target, (struct mail){.kind = MAIL_PUBLISH, .flags = flags, .message = message, .stamp = stamp});
  }
  return anybody;
}

bool route_topic(struct shard *shard, struct message *message, bool retain)
{
  const struct match *match = index_match(&shard->index, message_topic(message), message->topic_hash);
  if (match) return route_message(shard, message, match, retain, NULL, 0);
  message_unref(&shard->pool, message);
  return false;
}

void route_mail(struct shard *shard, const struct mail *mail)
{
  struct message *message = mail->message;
  size_t before = buffer_size(&shard->journal.records);
  journal_route_begin(shard, message);
  const struct match *match = index_match(&shard->index, message_topic(message), message->topic_hash);
  if (match) route_locally(shard, message, match);
  if (mail->flags & MAIL_RETAIN) (void)retain_here(shard, message, mail->stamp);
  journal_route_end(shard, NULL, 0);
  if (mail->flags & MAIL_COMMIT) journal_mail_taken(shard, mail->from, message, before);
  message_unref(&shard->pool, message);
}

void shard_publish(struct shard *shard, struct span topic, struct span payload, uint8_t qos, bool retain)
{
  struct message_parts parts = {
      .topic = topic, .payload = payload, .topic_hash = index_hash(&shard->index, topic), .qos = qos, .retain = retain};
  struct message *message = message_create(&shard->pool, &parts);
  if (message) route_topic(shard, message, retain);
}
