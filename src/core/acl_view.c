// A list as one client sees it: which subjects it is, and what was decided lately.

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/acl_internal.h"

enum {
  FIRST_SLOTS = 8,
  MOST_SLOTS = 64,
  CACHED_TOPIC = 255,  // bytes; decisions about longer topics are not remembered
};

// A decision. Free while it has no topic.
struct slot {
  uint64_t hash;
  char *topic;
  uint32_t rule;  // ACL_NO_RULE: none
  uint16_t topic_size;
  uint8_t question;  // verb, QoS, RETAIN
};

struct acl_view {
  struct acl *acl;
  struct acl_view *shadow;
  struct acl_values values;
  struct slot *slots;  // NULL at first; a power of two of them
  uint32_t slot_count, slots_used;
  size_t bytes;  // of memory, without the shadow's
  bool receives_all;
  uint32_t who_count;
  const struct acl_who *whos[];  // then the client identifier
};

// ---- Making one

// The subjects that a client is, collected in two passes: counted, then kept.
struct collected {
  const struct acl_who **whos;  // NULL: only counted
  uint32_t count;
};

static void collect(struct collected *collected, const struct acl_who *who)
{
  if (collected->whos) {
    for (uint32_t i = 0; i < collected->count; i++)
      if (collected->whos[i] == who) return;  // a group or fact that is named twice
    collected->whos[collected->count] = who;
  }
  collected->count++;
}

static void collect_plain(struct collected *collected, const struct acl *acl, enum acl_subject subject, struct span fact,
                          struct span who)
{
  const struct acl_who_key key = {.subject = subject, .fact = fact, .who = who};
  const struct acl_who *found = map_find(&acl->by_who, acl_who_hash(&key), acl_who_matches, &key);
  if (found) collect(collected, found);
}

static bool any_matches(const struct acl_who *who, const struct acl_values *values)
{
  const struct identity *identity = values->identity;
  if (who->subject == ACL_CLIENT) return acl_pattern_matches(who->who, values->client_id);
  if (!identity) return false;
  if (who->subject == ACL_USER) return identity->user.size > 0 && acl_pattern_matches(who->who, identity->user);
  if (who->subject == ACL_LISTENER) return acl_pattern_matches(who->who, identity->listener);
  if (who->subject == ACL_GROUP)
    for (size_t i = 0; i < identity->group_count; i++)
      if (acl_pattern_matches(who->who, identity->groups[i])) return true;
  if (who->subject == ACL_FACT)
    for (size_t i = 0; i < identity->fact_count; i++)
      if (span_equal(identity->facts[i].name, who->fact) && acl_pattern_matches(who->who, identity->facts[i].value))
        return true;
  return false;
}

static void collect_all(struct collected *collected, const struct acl *acl, const struct acl_values *values)
{
  const struct identity *identity = values->identity;
  const struct span none = {0};
  collect_plain(collected, acl, ACL_ANYBODY, none, none);
  collect_plain(collected, acl, ACL_CLIENT, none, values->client_id);
  if (!identity || identity->user.size == 0) collect_plain(collected, acl, ACL_ANONYMOUS, none, none);
  if (identity) {
    if (identity->user.size > 0) collect_plain(collected, acl, ACL_USER, none, identity->user);
    if (identity->listener.size > 0) collect_plain(collected, acl, ACL_LISTENER, none, identity->listener);
    for (size_t i = 0; i < identity->group_count; i++) collect_plain(collected, acl, ACL_GROUP, none, identity->groups[i]);
    for (size_t i = 0; i < identity->fact_count; i++)
      collect_plain(collected, acl, ACL_FACT, identity->facts[i].name, identity->facts[i].value);
  }
  for (uint32_t i = 0; i < acl->pattern_count; i++)
    if (any_matches(acl->patterns[i], values)) collect(collected, acl->patterns[i]);
}

static bool receives_all(const struct acl_view *view)
{
  uint32_t all = ACL_NO_RULE, deny = ACL_NO_RULE;
  for (uint32_t i = 0; i < view->who_count; i++) {
    if (view->whos[i]->first_receive_all < all) all = view->whos[i]->first_receive_all;
    if (view->whos[i]->first_receive_deny < deny) deny = view->whos[i]->first_receive_deny;
  }
  return all < deny;
}

enum status acl_view_create(struct acl *acl, const struct identity *identity, struct span client_id, struct acl_view **out)
{
  const struct acl_values values = {.identity = identity, .client_id = client_id};
  struct collected collected = {0};
  collect_all(&collected, acl, &values);
  struct acl_view *view = malloc(sizeof *view + collected.count * sizeof view->whos[0] + client_id.size);
  if (!view) return ERR_NO_MEMORY;
  *view = (struct acl_view){.values = values};
  char *id = (char *)(view->whos + collected.count);
  collected = (struct collected){.whos = view->whos};
  collect_all(&collected, acl, &values);
  view->who_count = collected.count;
  if (client_id.size > 0) memcpy(id, client_id.at, client_id.size);
  view->values.client_id = span_of(id, client_id.size);
  view->bytes = sizeof *view + collected.count * sizeof view->whos[0] + client_id.size;
  view->receives_all = receives_all(view);
  if (acl->shadow && acl_view_create(acl->shadow, identity, client_id, &view->shadow) != OK) {
    free(view);
    return ERR_NO_MEMORY;
  }
  view->acl = acl_ref(acl);
  (void)identity_ref(identity);
  *out = view;
  return OK;
}

void acl_view_free(struct acl_view *view)
{
  if (!view) return;
  acl_view_free(view->shadow);
  for (uint32_t i = 0; i < view->slot_count; i++) free(view->slots[i].topic);
  free(view->slots);
  identity_unref(view->values.identity);
  acl_unref(view->acl);
  free(view);
}

size_t acl_view_bytes(const struct acl_view *view)
{
  return view->shadow ? view->bytes + acl_view_bytes(view->shadow) : view->bytes;
}

bool acl_view_receives_all(const struct acl_view *view)
{
  return view->receives_all && (!view->shadow || acl_view_receives_all(view->shadow));
}

const struct acl *acl_view_list(const struct acl_view *view)
{
  return view->acl;
}

// ---- What was decided before

static uint8_t question_of(const struct acl_request *request)
{
  if (request->verb != ACL_PUBLISH) return (uint8_t)request->verb;
  return (uint8_t)((unsigned)request->verb | (unsigned)request->qos << 3 | (unsigned)request->retain << 5);
}

// Each decision has two places.
static uint32_t place_of(uint64_t hash, uint8_t question, uint32_t slot_count)
{
  return (uint32_t)(hash >> 32 ^ hash ^ question * 0x9e3779b9u) & (slot_count - 1) & ~1u;
}

static const struct slot *find_slot(const struct acl_view *view, const struct acl_request *request, uint8_t question)
{
  if (view->slot_count == 0) return NULL;
  const struct slot *slot = &view->slots[place_of(request->topic_hash, question, view->slot_count)];
  for (unsigned i = 0; i < 2; i++, slot++) {
    if (slot->hash != request->topic_hash || slot->question != question || slot->topic_size != request->topic.size) continue;
    if (slot->topic && memcmp(slot->topic, request->topic.at, request->topic.size) == 0) return slot;
  }
  return NULL;
}

static void grow(struct acl_view *view)
{
  uint32_t count = view->slot_count ? view->slot_count * 2 : FIRST_SLOTS;
  struct slot *slots = calloc(count, sizeof *slots);
  if (!slots) return;
  for (uint32_t i = 0; i < view->slot_count; i++) {
    if (!view->slots[i].topic) continue;
    struct slot *slot = &slots[place_of(view->slots[i].hash, view->slots[i].question, count)];
    if (slot->topic) slot++;
    assert(!slot->topic);  // two at most shared their places before, and none is added
    *slot = view->slots[i];
  }
  free(view->slots);
  view->slots = slots;
  view->bytes += (count - view->slot_count) * sizeof *slots;
  view->slot_count = count;
}

static void remember(struct acl_view *view, const struct acl_request *request, uint8_t question, uint32_t rule)
{
  if (request->topic.size > CACHED_TOPIC || request->topic.size == 0) return;
  bool crowded = view->slots_used >= view->slot_count / 4 * 3;
  if (crowded && view->slot_count < MOST_SLOTS) grow(view);
  if (view->slot_count == 0) return;
  char *topic = malloc(request->topic.size);
  if (!topic) return;
  memcpy(topic, request->topic.at, request->topic.size);
  struct slot *slot = &view->slots[place_of(request->topic_hash, question, view->slot_count)];
  struct slot *other = slot + 1;
  if (slot->topic) {  // the newer one is in front
    if (other->topic) {
      view->bytes -= other->topic_size;
      view->slots_used--;
      free(other->topic);
    }
    *other = *slot;
  }
  *slot = (struct slot){.hash = request->topic_hash,
                        .topic = topic,
                        .rule = rule,
                        .topic_size = (uint16_t)request->topic.size,
                        .question = question};
  view->slots_used++;
  view->bytes += request->topic.size;
}

// ---- Deciding

static uint32_t find_rule(struct acl_view *view, const struct acl_request *request)
{
  uint8_t question = question_of(request);
  const struct slot *slot = find_slot(view, request, question);
  if (slot) return slot->rule;
  uint32_t best = ACL_NO_RULE;
  for (uint32_t i = 0; i < view->who_count; i++)
    best = acl_topic_find(view->acl, view->whos[i]->root, &view->values, request, best);
  remember(view, request, question, best);
  return best;
}

void acl_decide(struct acl_view *view, const struct acl_request *request, struct acl_decision *out)
{
  uint32_t number = find_rule(view, request);
  *out = (struct acl_decision){0};
  if (number != ACL_NO_RULE) {
    const struct acl_kept *rule = &view->acl->rules[number];
    out->allowed = rule->allow;
    out->qos_max = rule->allow ? rule->qos_max : 0;
    out->matched = true;
    out->file = rule->file;
    out->line = rule->line;
  }
  if (!view->shadow) return;
  struct acl_decision trial;
  acl_decide(view->shadow, request, &trial);
  out->shadow_denies = !trial.allowed;
  out->shadow_file = trial.file;
  out->shadow_line = trial.line;
}
