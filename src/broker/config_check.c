// What is wrong or missing only when several keys are looked at together; what depends on other keys is filled in here.
#include <assert.h>
#include <string.h>

#include "broker/config.h"
#include "broker/config_schema.h"

static const char default_listener[] = "mqtt://127.0.0.1:1883";

static struct config_mark mark_of(const struct config *config, const char *section, const char *name)
{
  return config->origin.marks[config_find_key(section, name) - config_keys];
}

static bool given(const struct listener_config *listener, const char *name)
{
  return config_given(&listener->origin, config_find_key("listeners", name));
}

static void check_listener(struct checker *checker, struct listener_config *listener, size_t index)
{
  const struct listen_address *address = &listener->address;
  if (!address->text) {
    // A URL that was written and is wrong has been complained about.
    checker->failed = true;
    if (!given(listener, "url"))
      config_complain(checker, listener, index, "url", "is missing; write a URL, such as mqtt://127.0.0.1:1883");
    return;
  }
  bool network = address->kind == LISTEN_TCP || address->kind == LISTEN_WEBSOCKET;
  if (given(listener, "mode") && address->kind != LISTEN_UNIX)
    config_complain(checker, listener, index, "mode", "only unix sockets have permissions; remove it, or use a unix:// URL");
  if (listener->ipv6_only && (!network || (address->host && !strchr(address->host, ':'))))
    config_complain(checker, listener, index, "ipv6_only", "the address is not IPv6; remove it, or use the host * or [::]");
}

static void check_clashes(struct checker *checker, const struct config *config, size_t index)
{
  const struct listener_config *listener = &config->listeners[index];
  if (!listener->address.text) return;
  for (size_t i = 0; i < index; i++) {
    const struct listener_config *other = &config->listeners[i];
    if (!other->address.text ||
        !listen_address_clashes(&listener->address, listener->ipv6_only, &other->address, other->ipv6_only))
      continue;
    config_complain(checker, listener, index, "url", "listens where listeners[%zu] (%.80s) does; use another port or path",
                    i, other->address.text);
    return;
  }
  const struct listen_address *metrics = &config->metrics.listen;
  if (metrics->text && listen_address_clashes(&listener->address, listener->ipv6_only, metrics, false)) {
    checker->failed = true;
    (void)diagnostics_add(checker->diagnostics, checker->file, mark_of(config, "metrics", "listen"),
                          "metrics.listen: listens where listeners[%zu] (%.80s) does; use another port", index,
                          listener->address.text);
  }
}

// The key to blame for what several do together: the first of these that was written, else the first.
static const struct config_key *to_blame(const struct config *config, const struct config_key *const *keys, size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (config_given(&config->origin, keys[i])) return keys[i];
  return keys[0];
}

// One segment is written, others wait to be emptied: with fewer than this there is no room to work in. And what a checkpoint
// does not cover yet cannot be given back, however dead it is.
enum { SEGMENTS_LEAST = 4 };

static void check_journal_limit(struct checker *checker, const struct config *config)
{
  uint64_t segment = config->journal.segment_bytes;
  uint64_t reserve = (config->journal.reserve_bytes + segment - 1) / segment * segment;
  uint64_t least = reserve + config->journal.replay_bytes + SEGMENTS_LEAST * segment;
  if (config->journal.limit_bytes >= least) return;
  char texts[5][CONFIG_NUMBER_SIZE];
  const uint64_t values[5] = {config->journal.limit_bytes, segment, config->journal.reserve_bytes,
                              config->journal.replay_bytes, least};
  for (size_t i = 0; i < 5; i++) config_format_size(values[i], texts[i], sizeof texts[i]);
  const struct config_key *keys[] = {config_find_key("journal", "limit"), config_find_key("journal", "reserve"),
                                     config_find_key("journal", "segment"), config_find_key("journal", "replay")};
  const struct config_key *key = to_blame(config, keys, sizeof keys / sizeof keys[0]);
  checker->failed = true;
  (void)diagnostics_add(
      checker->diagnostics, checker->file, config->origin.marks[key - config_keys],
      "journal.%s: the limit of %s does not hold %d segments of %s, the reserve of %s and the replay of %s; "
      "write a journal.limit of at least %s, or less for the others",
      key->name, texts[0], SEGMENTS_LEAST, texts[1], texts[2], texts[3], texts[4]);
}

// A message that no file of the reserve holds could not be written on a full disk, and what is to clear up stands behind it.
enum { PACKETS_PER_SEGMENT = 2, PACKETS_PER_RESERVE = 4 };

static void check_packet_fits(struct checker *checker, const struct config *config, const char *name, uint64_t bytes,
                              uint64_t packets)
{
  uint64_t packet = config->limits.packet_size;
  if (bytes >= packets * packet) return;
  char texts[4][CONFIG_NUMBER_SIZE];
  const uint64_t values[4] = {bytes, packet, packets * packet, bytes / packets};
  for (size_t i = 0; i < 4; i++) config_format_size(values[i], texts[i], sizeof texts[i]);
  const struct config_key *keys[] = {config_find_key("journal", name), config_find_key("limits", "packet_size")};
  const struct config_key *key = to_blame(config, keys, sizeof keys / sizeof keys[0]);
  checker->failed = true;
  (void)diagnostics_add(checker->diagnostics, checker->file, config->origin.marks[key - config_keys],
                        "%s.%s: the journal's %s of %s does not hold %u packets of %s; "
                        "write a journal.%s of at least %s, or a limits.packet_size of at most %s",
                        key->section, key->name, name, texts[0], (unsigned)packets, texts[1], name, texts[2], texts[3]);
}

// The same of a listener with a packet size of its own.
static void check_listener_packets(struct checker *checker, const struct config *config, size_t index)
{
  const struct listener_config *listener = &config->listeners[index];
  uint64_t segment = config->journal.segment_bytes / PACKETS_PER_SEGMENT;
  uint64_t reserve = config->journal.reserve_bytes / PACKETS_PER_RESERVE;
  uint64_t most = segment < reserve ? segment : reserve;
  if (!given(listener, "limits.packet_size") || listener->limits.packet_size <= most) return;
  char text[CONFIG_NUMBER_SIZE];
  config_format_size(most, text, sizeof text);
  config_complain(checker, listener, index, "limits.packet_size",
                  "the journal's segments and reserve do not hold such packets; write at most %s, or enlarge journal.%s",
                  text, segment < reserve ? "segment" : "reserve");
}

static void check_journal(struct checker *checker, const struct config *config)
{
  check_journal_limit(checker, config);
  if (!config_has_journal(config)) return;  // without one, packets may be as large as they like
  check_packet_fits(checker, config, "segment", config->journal.segment_bytes, PACKETS_PER_SEGMENT);
  check_packet_fits(checker, config, "reserve", config->journal.reserve_bytes, PACKETS_PER_RESERVE);
  for (size_t i = 0; i < config->listener_count; i++) check_listener_packets(checker, config, i);
}

// A listener has the broker's limits but for those of its own.
static void complete_limits(const struct config *config, struct listener_config *listener)
{
  const struct listener_config own = *listener;
  listener->limits = config->limits;
  listener->connection_rate = config->connection_rate;
  listener->connections_per_address = config->connections_per_address;
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    if (!config_is_listener_limit(key) || !config_given(&own.origin, key)) continue;
    memcpy((uint8_t *)listener + key->offset, (const uint8_t *)&own + key->offset, key->width);
  }
}

bool config_complete(struct config *config, const char *file, struct diagnostics *diagnostics)
{
  struct checker checker = {.file = file, .diagnostics = diagnostics};
  if (config->listener_count == 0) {
    struct error error;
    if (config_set(config, "listeners[0].url", default_listener, &error)) {
      assert(error.status == ERR_NO_MEMORY);
      return false;
    }
  }
  for (size_t i = 0; i < config->listener_count; i++) check_listener(&checker, &config->listeners[i], i);
  for (size_t i = 0; i < config->listener_count; i++) check_clashes(&checker, config, i);
  config->limits.denied_disconnects = config->acl_denied == ACL_DENIED_DISCONNECT;
  for (size_t i = 0; i < config->listener_count; i++) complete_limits(config, &config->listeners[i]);
  check_journal(&checker, config);
  config_check_security(&checker, config);
  return !checker.failed;
}
