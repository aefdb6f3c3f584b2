// What a connection may do: the shard's list as its client sees it, counts and logs of what is denied.

#include "core/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/shard_internal.h"

struct access {
  const struct identity *identity;  // NULL: anonymous
  struct acl_view *view;            // NULL, or of the list that was the shard's when it was last asked
  size_t charged;                   // of the view, in the memory budget
  uint16_t client_id_size;
  char client_id[];
};

static size_t access_size(const struct access *access)
{
  return sizeof *access + access->client_id_size;
}

static void charge(struct shard *shard, struct access *access)
{
  size_t bytes = access->view ? acl_view_bytes(access->view) : 0;
  if (bytes == access->charged) return;
  pool_charge(&shard->pool, (int64_t)bytes - (int64_t)access->charged);
  access->charged = bytes;
}

static struct access *create(struct shard *shard, const struct identity *identity, struct span client_id)
{
  struct access *access = malloc(sizeof *access + client_id.size);
  if (!access) return NULL;
  *access = (struct access){.identity = identity_ref(identity), .client_id_size = (uint16_t)client_id.size};
  if (client_id.size > 0) memcpy(access->client_id, client_id.at, client_id.size);
  pool_charge(&shard->pool, (int64_t)access_size(access));
  return access;
}

enum status access_open(struct connection *connection, const struct identity *identity, struct span client_id)
{
  struct access *access = NULL;
  if (identity || connection->shard->acl) {
    access = create(connection->shard, identity, client_id);
    if (!access) return ERR_NO_MEMORY;
  }
  access_close(connection);
  connection->access = access;
  return OK;
}

void access_close(struct connection *connection)
{
  struct access *access = connection->access;
  if (!access) return;
  struct pool *pool = &connection->shard->pool;
  acl_view_free(access->view);
  identity_unref(access->identity);
  pool_charge(pool, -(int64_t)(access_size(access) + access->charged));
  free(access);
  connection->access = NULL;
}

const struct identity *access_identity(const struct connection *connection)
{
  return connection->access ? connection->access->identity : NULL;
}

// ---- Asking

// Of the shard's list, which there is. NULL when memory is short: then nothing is allowed.
static struct acl_view *current_view(struct connection *connection)
{
  struct shard *shard = connection->shard;
  if (!connection->access) {  // anonymous, and there was no list when it came
    struct span client_id = connection->session ? session_id(connection->session) : (struct span){0};
    connection->access = create(shard, NULL, client_id);
    if (!connection->access) return NULL;
  }
  struct access *access = connection->access;
  if (access->view && acl_view_list(access->view) == shard->acl) return access->view;
  struct acl_view *view;
  struct span client_id = span_of(access->client_id, access->client_id_size);
  if (acl_view_create(shard->acl, access->identity, client_id, &view) != OK) return NULL;
  acl_view_free(access->view);
  access->view = view;
  charge(shard, access);
  return view;
}

enum { WHERE_SIZE = 200 };

static const char *where(char out[WHERE_SIZE], const char *file, uint32_t line)
{
  if (!file) return "none";
  snprintf(out, WHERE_SIZE, "%s:%u", file, line);
  return out;
}

struct asker {
  struct shard *shard;
  struct span client_id;
  const struct identity *identity;
  const char *address;  // "" when the client is away
};

static void report(const struct asker *asker, const char *event, enum log_level level, const struct acl_request *request,
                   const char *rule)
{
  struct shard *shard = asker->shard;
  LOG(shard->settings.log, shard->now, level, event, FIELD_SPAN("client", asker->client_id),
      FIELD_SPAN("user", asker->identity ? asker->identity->user : (struct span){0}), FIELD_TEXT("address", asker->address),
      FIELD_TEXT("verb", acl_verb_name(request->verb)), FIELD_SPAN("topic", request->topic), FIELD_TEXT("rule", rule));
}

// `view` NULL: memory is short.
static bool ask(const struct asker *asker, struct acl_view *view, const struct acl_request *request,
                struct acl_decision *decision)
{
  struct counters *counters = &asker->shard->counters;
  unsigned verb = (unsigned)__builtin_ctz((unsigned)request->verb);
  char text[WHERE_SIZE];
  *decision = (struct acl_decision){0};
  if (view) acl_decide(view, request, decision);
  if (decision->allowed) {
    if (!decision->shadow_denies) return true;
    counters->trial_denied[verb]++;
    report(asker, "access_trial_denied", LOG_WARNING, request, where(text, decision->shadow_file, decision->shadow_line));
    return true;
  }
  counters->access_denied[verb]++;
  // That a wide subscription brings only what its client may see is as it should be.
  enum log_level level = request->verb == ACL_RECEIVE ? LOG_DEBUG : LOG_WARNING;
  report(asker, "access_denied", level, request, view ? where(text, decision->file, decision->line) : "out of memory");
  return false;
}

static bool ask_for(struct connection *connection, const struct acl_request *request, struct acl_decision *decision)
{
  struct acl_view *view = current_view(connection);
  struct access *access = connection->access;
  const struct asker asker = {.shard = connection->shard,
                              .client_id = access ? span_of(access->client_id, access->client_id_size) : (struct span){0},
                              .identity = access ? access->identity : NULL,
                              .address = connection->address};
  bool allowed = ask(&asker, view, request, decision);
  if (view) charge(connection->shard, access);
  return allowed;
}

bool access_may_publish(struct connection *connection, struct span topic, uint64_t topic_hash, uint8_t qos, bool retain)
{
  if (!connection->shard->acl) return true;
  struct acl_decision decision;
  const struct acl_request request = {
      .verb = ACL_PUBLISH, .topic = topic, .topic_hash = topic_hash, .qos = qos, .retain = retain};
  return ask_for(connection, &request, &decision);
}

bool access_may_subscribe(struct connection *connection, struct span filter, uint8_t *qos)
{
  struct shard *shard = connection->shard;
  if (!shard->acl) return true;
  struct acl_decision decision;
  const struct acl_request request = {
      .verb = ACL_SUBSCRIBE, .topic = filter, .topic_hash = index_hash(&shard->index, filter), .qos = *qos};
  if (!ask_for(connection, &request, &decision)) return false;
  if (decision.qos_max < *qos) *qos = decision.qos_max;
  return true;
}

bool access_may_receive(struct connection *connection, const struct message *message)
{
  struct shard *shard = connection->shard;
  if (!shard->acl) return true;
  struct span topic = message_topic(message);
  const struct acl_view *view = current_view(connection);
  if (view && topic.at[0] != '$' && acl_view_receives_all(view)) return true;
  struct acl_decision decision;
  const struct acl_request request = {.verb = ACL_RECEIVE, .topic = topic, .topic_hash = message->topic_hash};
  return ask_for(connection, &request, &decision);
}

bool access_could_receive(struct connection *connection, const struct message *message)
{
  struct shard *shard = connection->shard;
  if (!shard->acl) return true;
  struct acl_view *view = current_view(connection);
  if (!view) return false;
  struct acl_decision decision;
  const struct acl_request request = {
      .verb = ACL_RECEIVE, .topic = message_topic(message), .topic_hash = message->topic_hash};
  acl_decide(view, &request, &decision);
  charge(shard, connection->access);
  return decision.allowed;
}

bool access_may_send_will(struct shard *shard, const struct identity *identity, struct span client_id,
                          const struct message *message)
{
  if (!shard->acl) return true;
  struct acl_view *view;
  if (acl_view_create(shard->acl, identity, client_id, &view) != OK) view = NULL;
  struct acl_decision decision;
  const struct asker asker = {.shard = shard, .client_id = client_id, .identity = identity, .address = ""};
  const struct acl_request request = {.verb = ACL_PUBLISH,
                                      .topic = message_topic(message),
                                      .topic_hash = message->topic_hash,
                                      .qos = message->qos,
                                      .retain = message->retain};
  bool allowed = ask(&asker, view, &request, &decision);
  acl_view_free(view);
  return allowed;
}

void access_set_list(struct shard *shard, struct acl *acl)
{
  struct acl *before = shard->acl;
  shard->acl = acl_ref(acl);
  acl_unref(before);
  // Now, not when they are next asked: an idle connection would keep the old list in memory.
  LIST_EACH (link, &shard->connections) {
    struct connection *connection = CONTAINER_OF(link, struct connection, all);
    struct access *access = connection->access;
    if (!access || !access->view) continue;
    acl_view_free(access->view);
    access->view = NULL;
    charge(shard, access);
  }
}
