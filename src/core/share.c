// Shared subscriptions: groups on the shard that owns them, memberships on the shard of the client.

#include "core/share.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/shard_internal.h"

// With a journal all groups are where durable members are, so that a message and the queue it goes to are one record.
static uint8_t group_owner(const struct shard *shard, struct span key)
{
  return shard->settings.journal ? JOURNAL_SHARD : shard_owner(shard, key);
}

struct span share_key(struct span text)
{
  return span_from(text, strlen("$share/"));
}

// ---- Groups, on the owner's shard

static uint64_t key_hash(const struct shard *shard, struct span key)
{
  return hash_span(shard->settings.seed ^ 0x6709, key);
}

static bool group_matches(const void *item, const void *key)
{
  const struct group *group = item;
  return span_equal(span_text(group->key), *(const struct span *)key);
}

static struct group *find_group(const struct shard *shard, struct span key)
{
  return map_find(&shard->groups, key_hash(shard, key), group_matches, &key);
}

static struct span filter_of(struct span key)
{
  const uint8_t *slash = memchr(key.at, '/', key.size);
  assert(slash);
  return span_from(key, (size_t)(slash - key.at) + 1);
}

static struct group *create_group(struct shard *shard, struct span key)
{
  struct filter_end *end = index_end(&shard->index, filter_of(key));
  if (!end) return NULL;
  struct group *group = calloc(1, sizeof *group + key.size + 1);
  uint64_t hash = key_hash(shard, key);
  if (!group || map_insert(&shard->groups, hash, group) != OK) {
    free(group);
    index_release(&shard->index, end);
    return NULL;
  }
  memcpy(group->key, key.at, key.size);
  group->hash = hash;
  group->number = (uint32_t)++shard->next_number;
  group->end = end;
  group->next_at_end = end->groups;
  group->link_at_end = &end->groups;
  if (end->groups) end->groups->link_at_end = &group->next_at_end;
  end->groups = group;
  return group;
}

static void free_group(struct shard *shard, struct group *group)
{
  map_remove(&shard->groups, group->hash, group);
  *group->link_at_end = group->next_at_end;
  if (group->next_at_end) group->next_at_end->link_at_end = group->link_at_end;
  interest_remove(shard, group->end, shard->journal.on);
  free(group->members);
  free(group);
}

void share_free_groups(struct shard *shard)
{
  size_t cursor = 0;
  for (struct group *group; (group = map_next(&shard->groups, &cursor));) {
    *group->link_at_end = group->next_at_end;
    if (group->next_at_end) group->next_at_end->link_at_end = group->link_at_end;
    free(group->members);
    free(group);
  }
}

static struct member *find_member(const struct group *group, uint64_t membership)
{
  for (uint32_t i = 0; i < group->count; i++)
    if (group->members[i].membership == membership) return &group->members[i];
  return NULL;
}

static struct membership *numbered(const struct shard *shard, uint64_t number);

static void group_join(struct shard *shard, struct span key, uint8_t member_shard, uint64_t membership, uint8_t qos,
                       uint64_t ticket)
{
  struct group *group = find_group(shard, key);
  bool created = !group;
  if (created) group = create_group(shard, key);
  if (!group) abort();  // the member's shard has told its client that it is subscribed
  struct member *member = find_member(group, membership);
  if (!member) {
    if (group->count == group->capacity) {
      uint32_t capacity = group->capacity ? group->capacity * 2 : 4;
      struct member *members = realloc(group->members, capacity * sizeof *members);
      if (!members) abort();
      group->members = members;
      group->capacity = capacity;
    }
    member = &group->members[group->count++];
    *member = (struct member){.membership = membership, .shard = member_shard, .online = true};
    if (member_shard == shard->settings.shard) member->local = numbered(shard, membership);
  }
  member->qos = qos;
  if (created)
    interest_add(shard, group->end, shard->journal.on, ticket);
  else
    interest_sync(shard, ticket);
}

static void group_leave(struct shard *shard, struct span key, uint64_t membership)
{
  struct group *group = find_group(shard, key);
  struct member *member = group ? find_member(group, membership) : NULL;
  if (!member) return;
  size_t after = (size_t)(&group->members[group->count] - (member + 1));
  memmove(member, member + 1, after * sizeof *member);
  group->count--;
  if (group->count == 0) free_group(shard, group);
}

// ---- Choosing

// What its client has not acknowledged: of our own all that waits for it, on disk too and after a restart; of others what we
// gave them.
static uint64_t in_flight(const struct member *member)
{
  if (!member->local) return member->outstanding;
  const struct session *session = member->local->session;
  uint32_t waiting = session->waiting > session->queue.count ? session->waiting : session->queue.count;
  return (uint64_t)waiting + session->window.count;
}

static uint32_t least_in_flight(const struct group *group, bool online)
{
  uint32_t best = UINT32_MAX;
  for (uint32_t k = 0; k < group->count; k++) {
    uint32_t i = (group->turn + k) % group->count;  // ties go round
    if (group->members[i].online == online &&
        (best == UINT32_MAX || in_flight(&group->members[i]) < in_flight(&group->members[best])))
      best = i;
  }
  return best;
}

// Rendezvous hashing: a topic stays with its member while that is there, and only the topics of a member that left move.
static uint32_t sticky(const struct shard *shard, const struct group *group, uint64_t topic_hash, bool online)
{
  uint32_t best = UINT32_MAX;
  uint64_t best_weight = 0;
  for (uint32_t i = 0; i < group->count; i++) {
    uint64_t pair[2] = {topic_hash, group->members[i].membership};
    uint64_t weight = hash_bytes(shard->settings.seed, pair, sizeof pair);
    if (group->members[i].online == online && (best == UINT32_MAX || weight > best_weight)) {
      best = i;
      best_weight = weight;
    }
  }
  return best;
}

static uint32_t from_place(const struct group *group, uint32_t place, bool online)
{
  for (uint32_t k = 0; k < group->count; k++) {
    uint32_t i = (place + k) % group->count;
    if (group->members[i].online == online) return i;
  }
  return UINT32_MAX;
}

static uint32_t choose_among(struct shard *shard, struct group *group, const struct message *message, bool online)
{
  switch (shard->limits[BROKER_LIMITS].share_strategy) {
    case SHARE_RANDOM: return from_place(group, (uint32_t)prng_below(&shard->prng, group->count), online);
    case SHARE_LEAST_IN_FLIGHT: return least_in_flight(group, online);
    case SHARE_STICKY: return sticky(shard, group, message->topic_hash, online);
    case SHARE_ROUND_ROBIN: break;
  }
  return from_place(group, group->turn, online);
}

// Whether a QoS 1 or 2 message of this size is too many for the member, as far as this shard can tell.
static bool is_full(const struct member *member, size_t size)
{
  return member->local && member->qos > 0 && session_is_full(member->local->session, size);
}

// Of those that are there, or away, as the chosen one: the next whose queue is not full; the chosen one when all are.
static uint32_t pass_over_full(const struct group *group, uint32_t chosen, size_t size)
{
  for (uint32_t k = 0; k < group->count; k++) {
    uint32_t i = (chosen + k) % group->count;
    if (group->members[i].online == group->members[chosen].online && !is_full(&group->members[i], size)) return i;
  }
  return chosen;
}

bool share_rejects(const struct shard *shard, const struct group *group, uint64_t topic_hash, size_t size)
{
  uint32_t first = from_place(group, 0, true);
  if (first == UINT32_MAX) first = from_place(group, 0, false);
  if (first == UINT32_MAX) return false;
  bool online = group->members[first].online;
  uint32_t chosen = shard->limits[BROKER_LIMITS].share_strategy == SHARE_STICKY ? sticky(shard, group, topic_hash, online)
                                                                                : pass_over_full(group, first, size);
  const struct member *member = &group->members[chosen];
  return is_full(member, size) && session_rejects(member->local->session, size);
}

// Whether it would be dropped there, as far as this shard can tell.
static bool is_denied(const struct shard *shard, const struct member *member, const struct message *message)
{
  if (!shard->acl || !member->local) return false;
  struct connection *connection = member->local->session->connection;
  return connection && !access_could_receive(connection, message);
}

// Of those that are there, or away, as the chosen one: the next who may have the message and whose queue is not full (sticky
// topics stay where they are), or else who may have it; the chosen one when nobody may.
static uint32_t pass_over(const struct shard *shard, const struct group *group, uint32_t chosen,
                          const struct message *message)
{
  bool minds_full = message->qos > 0 && shard->limits[BROKER_LIMITS].share_strategy != SHARE_STICKY;
  size_t size = message_size(message);
  uint32_t full = UINT32_MAX;
  for (uint32_t k = 0; k < group->count; k++) {
    uint32_t i = (chosen + k) % group->count;
    if (group->members[i].online != group->members[chosen].online) continue;
    if (is_denied(shard, &group->members[i], message)) continue;
    if (!minds_full || !is_full(&group->members[i], size)) return i;
    if (full == UINT32_MAX) full = i;
  }
  return full != UINT32_MAX ? full : chosen;
}

static bool deliver_to_membership(struct shard *shard, uint64_t number, struct message *message, uint8_t qos);

static void give_to(struct shard *shard, struct group *group, struct member *member, struct message *message)
{
  uint8_t qos = message->qos < member->qos ? message->qos : member->qos;
  if (member->shard == shard->settings.shard) {
    deliver_to_membership(shard, member->membership, message, qos);
    return;
  }
  if (shard->limits[BROKER_LIMITS].share_strategy == SHARE_LEAST_IN_FLIGHT) member->outstanding++;
  message_share(message);
  message_ref(message, 1);
  shard_send_mail(shard, member->shard,
                  (struct mail){.kind = MAIL_SHARE_DELIVER,
                                .qos = qos,
                                .count = group->number,
                                .message = message,
                                .member = member->membership,
                                .ticket2 = group->hash});
}

// Members that are connected come first; a message of QoS 1 or 2 waits for one that is away only when all are. Nothing is
// lost to a full queue while another one has room, but sticky topics stay where they are; nor to a member that may not
// receive it.
void share_dispatch(struct shard *shard, struct group *group, struct message *message)
{
  uint32_t chosen = choose_among(shard, group, message, true);
  if (chosen == UINT32_MAX) chosen = choose_among(shard, group, message, false);
  if (chosen == UINT32_MAX) return;
  chosen = pass_over(shard, group, chosen, message);
  group->turn = chosen + 1;
  give_to(shard, group, &group->members[chosen], message);
}

// ---- Memberships, on the client's shard

static uint64_t number_hash(const struct shard *shard, uint64_t number)
{
  return hash_bytes(shard->settings.seed, &number, sizeof number);
}

static bool membership_matches(const void *item, const void *key)
{
  const struct membership *membership = item;
  return membership->number == *(const uint64_t *)key;
}

static struct membership *numbered(const struct shard *shard, uint64_t number)
{
  return map_find(&shard->memberships, number_hash(shard, number), membership_matches, &number);
}

static struct membership *find_membership(const struct session *session, struct span key)
{
  struct membership *membership = session->memberships;
  while (membership && !span_equal(span_text(membership->key), key)) membership = membership->next_in_session;
  return membership;
}

// False when there is no such membership (any more).
static bool deliver_to_membership(struct shard *shard, uint64_t number, struct message *message, uint8_t qos)
{
  struct membership *membership = numbered(shard, number);
  if (!membership) return false;
  if (qos > membership->qos) qos = membership->qos;  // granted anew while the message was on its way
  struct copy copy = {
      .message = message, .tag = membership->tag, .qos = qos, .retain = membership->retain_as_published && message->retain};
  session_deliver(membership->session, &copy);
  return true;
}

// Copies made before keep the old tag. The membership remembers those that are still carried: they point to it.
static enum status renew_tag(struct membership *membership, uint32_t id)
{
  struct tag *tag = tag_create(&id, id ? 1 : 0);
  if (!tag) return ERR_NO_MEMORY;
  tag->membership = membership;
  tag->older = membership->tag;
  for (struct tag **at = &tag->older; *at;) {
    struct tag *old = *at;
    if (old->refs > 1) {
      at = &old->older;
      continue;
    }
    *at = old->older;
    tag_unref(old);
  }
  membership->tag = tag;
  return OK;
}

// Copies that still wait keep their tags.
static void forget_tags(struct membership *membership)
{
  for (struct tag *tag = membership->tag, *older; tag; tag = older) {
    older = tag->older;
    tag->older = NULL;
    tag->membership = NULL;
    tag_unref(tag);
  }
}

uint32_t share_hash(const struct membership *membership)
{
  // Not keyed: it is in the journal, for the next process. Two of one session that share it give each other's credit.
  return (uint32_t)hash_span(0, span_text(membership->key)) | 1;
}

struct tag *share_tag(const struct session *session, uint32_t hash)
{
  for (const struct membership *m = session->memberships; m; m = m->next_in_session)
    if (share_hash(m) == hash) return m->tag;
  return NULL;
}

static struct membership *create_membership(struct session *session, struct span key, uint32_t id)
{
  struct shard *shard = session->shard;
  struct membership *membership = calloc(1, sizeof *membership + key.size + 1);
  if (!membership) return NULL;
  membership->number = shard_number(shard);
  membership->session = session;
  membership->owner = group_owner(shard, key);
  memcpy(membership->key, key.at, key.size);
  if (renew_tag(membership, id) != OK ||
      map_insert(&shard->memberships, number_hash(shard, membership->number), membership) != OK) {
    tag_unref(membership->tag);
    free(membership);
    return NULL;
  }
  membership->next_in_session = session->memberships;
  membership->link_in_session = &session->memberships;
  if (session->memberships) session->memberships->link_in_session = &membership->next_in_session;
  session->memberships = membership;
  session->subscription_count++;
  shard->counters.shared_subscriptions++;
  return membership;
}

static char *copy_key(const struct membership *membership)
{
  char *text = strdup(membership->key);
  if (!text) abort();  // the owner must know, or messages would go to nobody
  return text;
}

enum status share_subscribe(struct session *session, const struct subscription *options, struct span key, uint64_t ticket,
                            bool *out_new)
{
  struct shard *shard = session->shard;
  struct membership *membership = find_membership(session, key);
  *out_new = !membership;
  if (!membership) {
    if (session->subscription_count >= session_limits(session)->subscriptions) return ERR_FULL;
    membership = create_membership(session, key, options->id);
    if (!membership) return ERR_NO_MEMORY;
  } else if (renew_tag(membership, options->id) != OK) {
    return ERR_NO_MEMORY;
  }
  membership->qos = options->qos;
  membership->retain_as_published = options->retain_as_published;
  if (membership->owner == shard->settings.shard) {
    group_join(shard, key, membership->owner, membership->number, options->qos, ticket);
    return OK;
  }
  ticket_expect(shard, ticket);
  shard_send_mail(shard, membership->owner,
                  (struct mail){.kind = MAIL_SHARE_JOIN,
                                .qos = options->qos,
                                .text = copy_key(membership),
                                .member = membership->number,
                                .ticket2 = ticket});
  return OK;
}

static void leave(struct membership *membership)
{
  struct shard *shard = membership->session->shard;
  if (membership->owner == shard->settings.shard)
    group_leave(shard, span_text(membership->key), membership->number);
  else
    shard_send_mail(shard, membership->owner,
                    (struct mail){.kind = MAIL_SHARE_LEAVE, .text = copy_key(membership), .member = membership->number});
  map_remove(&shard->memberships, number_hash(shard, membership->number), membership);
}

static void free_membership(struct membership *membership)
{
  struct session *session = membership->session;
  *membership->link_in_session = membership->next_in_session;
  if (membership->next_in_session) membership->next_in_session->link_in_session = membership->link_in_session;
  session->subscription_count--;
  session->shard->counters.shared_subscriptions--;
  forget_tags(membership);
  free(membership);
}

bool share_unsubscribe(struct session *session, struct span key)
{
  struct membership *membership = find_membership(session, key);
  if (!membership) return false;
  leave(membership);
  free_membership(membership);
  return true;
}

void share_leave_groups(struct session *session)
{
  for (struct membership *m = session->memberships; m; m = m->next_in_session) leave(m);
}

void share_free_memberships(struct session *session)
{
  while (session->memberships) free_membership(session->memberships);
}

static void group_set_online(struct shard *shard, struct span key, uint64_t number, bool online)
{
  struct group *group = find_group(shard, key);
  struct member *member = group ? find_member(group, number) : NULL;
  if (member) member->online = online;
}

void share_set_online(struct session *session, bool online)
{
  struct shard *shard = session->shard;
  for (struct membership *m = session->memberships; m; m = m->next_in_session) {
    if (m->owner == shard->settings.shard)
      group_set_online(shard, span_text(m->key), m->number, online);
    else
      shard_send_mail(
          shard, m->owner,
          (struct mail){
              .kind = MAIL_SHARE_STATE, .flags = online ? MAIL_ONLINE : 0, .text = copy_key(m), .member = m->number});
  }
}

// ---- Back to the group

static void dispatch_again(struct shard *shard, struct group *group, struct message *message)
{
  if (!group) return;
  journal_route_begin(shard, message);
  share_dispatch(shard, group, message);
  journal_route_end(shard, NULL, 0);
}

void share_return(struct shard *shard, const char *key, struct message *message)
{
  uint8_t owner = group_owner(shard, span_text(key));
  if (owner == shard->settings.shard) {
    dispatch_again(shard, find_group(shard, span_text(key)), message);
    return;
  }
  char *text = strdup(key);
  if (!text) abort();
  message_share(message);
  message_ref(message, 1);
  shard_send_mail(shard, owner, (struct mail){.kind = MAIL_SHARE_RETURN, .message = message, .text = text});
}

static void group_credit(struct shard *shard, struct span key, uint64_t number, uint32_t count)
{
  struct group *group = find_group(shard, key);
  struct member *member = group ? find_member(group, number) : NULL;
  if (member) member->outstanding -= member->outstanding < count ? member->outstanding : count;
}

void share_credit(struct shard *shard, const struct tag *tag)
{
  const struct membership *membership = tag ? tag->membership : NULL;
  if (!membership || shard->limits[BROKER_LIMITS].share_strategy != SHARE_LEAST_IN_FLIGHT) return;
  if (membership->owner == shard->settings.shard) return;
  shard_send_mail(
      shard, membership->owner,
      (struct mail){.kind = MAIL_SHARE_CREDIT, .count = 1, .text = copy_key(membership), .member = membership->number});
}

// ---- Mail

// The member left while the message was on its way: its leaving is in front of this on the way back, so another one is
// chosen.
static void deliver_mail(struct shard *shard, struct mail *mail)
{
  if (deliver_to_membership(shard, mail->member, mail->message, mail->qos)) {
    message_unref(&shard->pool, mail->message);
    return;
  }
  shard_send_mail(
      shard, mail->from,
      (struct mail){.kind = MAIL_SHARE_RETURN, .count = mail->count, .message = mail->message, .ticket2 = mail->ticket2});
}

static bool number_matches(const void *item, const void *key)
{
  return ((const struct group *)item)->number == *(const uint32_t *)key;
}

static void return_mail(struct shard *shard, const struct mail *mail)
{
  struct group *group = mail->text ? find_group(shard, span_text(mail->text))
                                   : map_find(&shard->groups, mail->ticket2, number_matches, &mail->count);
  dispatch_again(shard, group, mail->message);
  message_unref(&shard->pool, mail->message);
}

void share_mail(struct shard *shard, struct mail *mail)
{
  if (mail->kind == MAIL_SHARE_DELIVER) {
    deliver_mail(shard, mail);
    return;
  }
  if (mail->kind == MAIL_SHARE_RETURN) {
    return_mail(shard, mail);
    free(mail->text);
    return;
  }
  struct span key = span_text(mail->text);
  if (mail->kind == MAIL_SHARE_JOIN) {
    uint64_t ticket = mail->ticket2 ? ticket_for_shard(shard, mail->from, mail->ticket2) : 0;
    group_join(shard, key, mail->from, mail->member, mail->qos, ticket);
    ticket_done(shard, ticket);
  } else if (mail->kind == MAIL_SHARE_LEAVE) {
    group_leave(shard, key, mail->member);
  } else if (mail->kind == MAIL_SHARE_STATE) {
    group_set_online(shard, key, mail->member, mail->flags & MAIL_ONLINE);
  } else {
    assert(mail->kind == MAIL_SHARE_CREDIT);
    group_credit(shard, key, mail->member, mail->count);
  }
  free(mail->text);
}
