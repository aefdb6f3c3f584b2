// The roll of the clients that are connected.

#include "core/roll.h"

#include "core/admission.h"
#include "core/shard_internal.h"

static bool fits(struct span wanted, struct span value)
{
  return !wanted.at || span_equal(wanted, value);
}

static struct span user_of(const struct identity *identity)
{
  return identity ? identity->user : (struct span){0};
}

static bool is_meant(const struct connection *connection, const struct roll_choice *choice)
{
  return connection->state == CONNECTED && fits(choice->client_id, session_id(connection->session)) &&
         fits(choice->user, user_of(access_identity(connection)));
}

static struct roll_entry entry_of(const struct connection *connection, const struct identity *identity)
{
  const struct session *session = connection->session;
  return (struct roll_entry){.client_id = session ? session_id(session) : (struct span){0},
                             .user = user_of(identity),
                             .method = identity ? identity->method : "anonymous",
                             .address = connection->address,
                             .transport = connection->transport,
                             .version = connection->version,
                             .silent_ms = (uint32_t)connection->shard->now.ms - connection->heard_ms,
                             .subscriptions = session ? session->subscription_count : 0};
}

void roll_call(struct shard *shard, const struct roll_choice *choice,
               bool (*visit)(void *context, const struct roll_entry *entry), void *context)
{
  LIST_EACH (link, &shard->connections) {
    const struct connection *connection = CONTAINER_OF(link, struct connection, all);
    if (!is_meant(connection, choice)) continue;
    const struct roll_entry entry = entry_of(connection, access_identity(connection));
    if (!visit(context, &entry)) return;
  }
}

// It has asked to come in, as somebody who may be meant.
static bool is_about_to_come(const struct connection *connection, const struct roll_choice *choice)
{
  if (connection->state == CONNECTED || connection->state == CLOSING || !connection->admitting) return false;
  const struct admission *admission = admission_of(connection);
  return choice->user.at && (!admission->identity || span_equal(choice->user, admission->identity->user));
}

static void report(const struct connection *connection, enum mqtt_reason reason)
{
  const struct shard *shard = connection->shard;
  LOG(shard->settings.log, shard->now, LOG_INFO, "client_dismissed",
      FIELD_SPAN("client", connection->session ? session_id(connection->session) : (struct span){0}),
      FIELD_SPAN("user", user_of(access_identity(connection))), FIELD_TEXT("address", connection->address),
      FIELD_UINT("reason", (uint64_t)reason));
}

size_t roll_dismiss(struct shard *shard, const struct roll_choice *choice, enum mqtt_reason reason)
{
  size_t count = 0;
  LIST_EACH (link, &shard->connections) {
    struct connection *connection = CONTAINER_OF(link, struct connection, all);
    bool meant = is_meant(connection, choice);
    if (!meant && !is_about_to_come(connection, choice)) continue;
    if (meant) count++;
    report(connection, reason);
    shard_disconnect(shard, connection, reason);
  }
  return count;
}

// Whether it is known who it is: of one that waits for another shard, or the disk, before it is in, too.
static bool is_known(const struct connection *connection, const struct identity **out)
{
  *out = NULL;
  if (connection->state == CONNECTED) *out = access_identity(connection);
  if (connection->state == CONNECTED || connection->state == CLOSING) return connection->state == CONNECTED;
  const struct admission *admission = admission_of(connection);
  if (admission) *out = admission->identity;
  return *out;
}

size_t roll_review(struct shard *shard, bool (*stays)(void *context, const struct roll_entry *entry), void *context,
                   enum mqtt_reason reason)
{
  size_t count = 0;
  LIST_EACH (link, &shard->connections) {
    struct connection *connection = CONTAINER_OF(link, struct connection, all);
    const struct identity *identity;
    if (!is_known(connection, &identity)) continue;
    const struct roll_entry entry = entry_of(connection, identity);
    if (stays(context, &entry)) continue;
    count++;
    report(connection, reason);
    shard_disconnect(shard, connection, reason);
  }
  return count;
}
