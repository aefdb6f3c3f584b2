// Back-pressure for QoS 1 and 2: what was acknowledged to a publisher must not be dropped only because its subscriber is
// slower. While a connected client acknowledges what it gets, but slower than messages come, the connections that publish to
// it are not read from until it has caught up; its queue may exceed queue_messages meanwhile by what was under way
// (queue_bytes still holds). A client that has something to acknowledge and does not for LIVE_MS holds nobody up: its queue
// fills and then drops, with a count.
//
// Across shards: a shard tells the others when it has congested sessions, and when one has recovered.

#include <stdlib.h>

#include "core/shard_internal.h"

static bool live(const struct session *session)
{
  uint32_t now_ms = (uint32_t)session->shard->now.ms;
  return session->connection && now_ms - session->progress_ms < LIVE_MS;
}

bool congestion_excuses(const struct session *session)
{
  return live(session);
}

static void tell_others(struct shard *shard)
{
  bool congested = shard->congested_count > 0;
  for (uint8_t target = 0; target < shard->settings.shard_count; target++)
    if (target != shard->settings.shard)
      shard_send_mail(shard, target, (struct mail){.kind = MAIL_CONGESTION, .flags = congested ? MAIL_CONGESTED : 0});
}

static void enter(struct session *session)
{
  struct shard *shard = session->shard;
  if (shard->congested_count == shard->congested_capacity) {
    uint32_t capacity = shard->congested_capacity ? shard->congested_capacity * 2 : 8;
    struct session **bigger = realloc(shard->congested, capacity * sizeof *bigger);
    if (!bigger) return;
    shard->congested = bigger;
    shard->congested_capacity = capacity;
  }
  session->congested = true;
  shard->congested[shard->congested_count++] = session;
  if (shard->congested_count == 1) tell_others(shard);
}

void congestion_leave(struct session *session)
{
  struct shard *shard = session->shard;
  if (!session->congested) return;
  session->congested = false;
  uint32_t i = 0;
  while (shard->congested[i] != session) i++;
  shard->congested[i] = shard->congested[--shard->congested_count];
  shard->congestion_eased = true;
  tell_others(shard);
}

void congestion_look(struct session *session)
{
  struct shard *shard = session->shard;
  if (session->waiting == 1 && session->window.count == 0) session->progress_ms = (uint32_t)shard->now.ms;
  uint32_t limit = session_limits(session)->queue_messages;
  if (limit == 0 || session->waiting <= limit / 2 || !live(session)) return;
  if (!session->congested) enter(session);
  shard->hit_congestion = true;
}

void congestion_progress(struct session *session)
{
  session->progress_ms = (uint32_t)session->shard->now.ms;
  if (session->congested && session->waiting <= session_limits(session)->queue_messages / 4) congestion_leave(session);
}

// A client whose acknowledgements we wait for is read from all the same: they stand behind what it publishes, and two
// clients that publish to each other would wait for each other.
void congestion_pause(struct connection *connection)
{
  if (connection->in_flight == 0) connection_pause(connection, PAUSED_QUEUE);
}

void congestion_mail(struct shard *shard, const struct mail *mail)
{
  uint32_t bit = 1u << mail->from;
  if (mail->flags & MAIL_CONGESTED)
    shard->congested_shards |= bit;
  else
    shard->congested_shards &= ~bit;
  shard->congestion_eased = true;
}

// Sessions that got stuck hold nobody up any longer.
void congestion_tick(struct shard *shard)
{
  for (uint32_t i = shard->congested_count; i > 0; i--) {
    struct session *session = shard->congested[i - 1];
    if (!live(session)) congestion_leave(session);
  }
}
