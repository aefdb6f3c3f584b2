// Every key of the configuration, once. libcyaml was considered for this: it parses by a schema too, but it cannot name the
// nearest known key, knows neither units nor what can be reloaded, and makes neither help nor documentation. So the table is
// ours, and YAML is read with libyaml, which says line and column of everything.
#include "broker/config_schema.h"

#include <assert.h>
#include <string.h>

#define FIELD(type_, field) .offset = offsetof(struct type_, field), .width = sizeof(((struct type_ *)0)->field)
#define CONFIG_FIELD(field) FIELD(config, field)
#define LISTENER_FIELD(field) FIELD(listener_config, field)

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

enum { MS = 1, SECOND_MS = 1000, DAY_S = 86400 };

static const char *const share_strategies[] = {"round_robin", "random", "least_in_flight", "sticky", NULL};
static const char *const queue_drops[] = {"oldest", "newest", "reject", NULL};
static const char *const durabilities[] = {"commit", "interval", "memory", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

// The words stand in the order of the enums.
static_assert(SHARE_ROUND_ROBIN == 0 && SHARE_RANDOM == 1 && SHARE_LEAST_IN_FLIGHT == 2 && SHARE_STICKY == 3, "");
static_assert(QUEUE_DROP_OLDEST == 0 && QUEUE_DROP_NEWEST == 1 && QUEUE_REJECT == 2, "");
static_assert(DURABILITY_COMMIT == 0 && DURABILITY_INTERVAL == 1 && DURABILITY_MEMORY == 2, "");
static_assert(LOG_ERROR == 0 && LOG_WARNING == 1 && LOG_INFO == 2 && LOG_DEBUG == 3, "");
static_assert(LOG_TEXT == 0 && LOG_JSON == 1, "");

const struct config_section config_sections[] = {
    {"broker", false, "The broker as a whole."},
    {"listeners", true,
     "Where clients connect: a list. An item is a URL, or a mapping with the keys below. Without this key there is one "
     "listener, "
     "mqtt://127.0.0.1:1883. A reload adds, changes and removes listeners; connections of those that stay are kept."},
    {"limits", false,
     "What one client, and all of them together, may use. A reload applies them to what starts from then on."},
    {"journal", false,
     "How sessions, their queues and retained messages are kept in the directory journal/ of broker.data. Without "
     "broker.data nothing is kept on disk, and these keys have no effect."},
    {"shared_subscriptions", false, "How messages are dealt to the members of a shared subscription ($share/...)."},
    {"metrics", false, "Figures for Prometheus."},
    {"sys", false, "The broker's own topics, $SYS/#."},
    {"log", false, "What is written to standard error."},
};
const size_t config_section_count = sizeof config_sections / sizeof config_sections[0];

// clang-format off
const struct config_key config_keys[] = {
    {.section = "broker", .name = "id", .type = CONFIG_STRING, CONFIG_FIELD(broker.id), .minimum = 1, .maximum = 128,
     .forbidden = "/+#", .default_note = "the host's name", .example = "cell-7",
     .help = "Name of this broker in logs, metrics and $SYS."},
    {.section = "broker", .name = "data", .type = CONFIG_STRING, CONFIG_FIELD(broker.data), .minimum = 1,
     .maximum = 4000, .default_note = "not set: everything is kept in memory", .example = "./data",
     .help = "Directory for everything that has to survive a restart; made when it is missing, with all of its path. "
             "One broker at a time can use it. The journal is the directory journal/ in it."},
    {.section = "broker", .name = "shards", .type = CONFIG_INTEGER, CONFIG_FIELD(broker.shards), .minimum = 1,
     .maximum = 16, .special_word = "auto", .special_value = 0, .default_text = "auto", .example = "2",
     .help = "Threads that serve clients. Automatic: 1 up to two cores, then one less than there are cores, at most "
             "4."},
    {.section = "broker", .name = "memory_limit", .type = CONFIG_SIZE, CONFIG_FIELD(broker.memory_limit_bytes),
     .minimum = 4 * MIB, .maximum = TIB, .default_text = "64MiB",
     .help = "Memory for messages, buffers and sessions. Near it, reading from publishers stops until there is room "
             "again."},

    {.section = "listeners", .name = "url", .type = CONFIG_URL, .reloadable = true, LISTENER_FIELD(address),
     .default_note = "has to be given", .example = "mqtt://127.0.0.1:1883",
     .help = "mqtt://host:port, ws://host:port/path, unix:///path, or systemd://name for a socket from the service "
             "manager. Host * (or none) is every address, IPv4 and IPv6; IPv6 addresses go in brackets; port 0 is "
             "any free port; a ws URL without path takes requests for every path."},
    {.section = "listeners", .name = "anonymous", .type = CONFIG_BOOL, .reloadable = true, LISTENER_FIELD(anonymous),
     .default_note = "true on loopback and unix sockets, false elsewhere",
     .help = "Let clients in that give no credentials."},
    {.section = "listeners", .name = "proxy_protocol", .type = CONFIG_BOOL, .reloadable = true,
     LISTENER_FIELD(proxy_protocol), .default_text = "false",
     .help = "Expect a PROXY protocol header (version 1 or 2) before each connection, as a load balancer sends it. "
             "Connections without it are closed."},
    {.section = "listeners", .name = "ipv6_only", .type = CONFIG_BOOL, .reloadable = true, LISTENER_FIELD(ipv6_only),
     .default_text = "false",
     .help = "Take IPv6 connections only where the host would take both."},
    {.section = "listeners", .name = "mode", .type = CONFIG_MODE, .reloadable = true, LISTENER_FIELD(mode),
     .minimum = 0, .maximum = 0777, .default_text = "0660",
     .help = "Permissions of a unix socket, octal."},
    {.section = "listeners", .name = "max_connections", .type = CONFIG_INTEGER, .reloadable = true,
     LISTENER_FIELD(max_connections), .minimum = 1, .maximum = 10000000, .special_word = "unlimited",
     .special_value = 0, .default_text = "unlimited", .example = "1000",
     .help = "Connections on this listener at a time, besides limits.connections."},

    {.section = "limits", .name = "connections", .type = CONFIG_INTEGER, .reloadable = true, CONFIG_FIELD(connections),
     .minimum = 1, .maximum = 10000000, .default_text = "10000",
     .help = "Connections at a time, on all listeners. More are closed at once."},
    {.section = "limits", .name = "connection_rate", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(connection_rate), .minimum = 1, .maximum = 1000000, .special_word = "unlimited", .special_value = 0,
     .default_text = "unlimited", .example = "500",
     .help = "New connections per second and listener. More wait in the system's queue."},
    {.section = "limits", .name = "connect_timeout", .type = CONFIG_DURATION, .reloadable = true,
     CONFIG_FIELD(limits.connect_timeout_ms), .unit_ms = MS, .minimum = 100, .maximum = 600 * SECOND_MS,
     .default_text = "10s",
     .help = "How long a new connection has until its CONNECT packet is complete."},
    {.section = "limits", .name = "packet_size", .type = CONFIG_SIZE, .reloadable = true,
     CONFIG_FIELD(limits.packet_size), .minimum = 256, .maximum = 256 * MIB, .default_text = "1MiB",
     .help = "The largest MQTT packet that is accepted. Told to 5.0 clients as Maximum Packet Size. With a journal, at "
             "most half of journal.segment and a quarter of journal.reserve."},
    {.section = "limits", .name = "in_flight", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(limits.in_flight), .minimum = 1, .maximum = 65535, .default_text = "32",
     .help = "QoS 1 and 2 messages that a client may have unacknowledged, each way. Told to 5.0 clients as Receive "
             "Maximum."},
    {.section = "limits", .name = "queue_messages", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(limits.queue_messages), .minimum = 1, .maximum = 1000000000, .special_word = "unlimited",
     .special_value = 0, .default_text = "100000",
     .help = "QoS 1 and 2 messages that wait for one session; limits.queue_drop says what happens beyond it. 0 is "
             "unlimited: then the bytes and the age count alone."},
    {.section = "limits", .name = "queue_bytes", .type = CONFIG_SIZE, .reloadable = true,
     CONFIG_FIELD(limits.queue_bytes), .minimum = KIB, .maximum = TIB, .default_text = "64MiB",
     .help = "The same limit in bytes of the waiting messages."},
    {.section = "limits", .name = "queue_age", .type = CONFIG_DURATION, .reloadable = true,
     CONFIG_FIELD(limits.queue_age_s), .unit_ms = SECOND_MS, .minimum = 1, .maximum = 3650 * DAY_S,
     .special_word = "unlimited", .special_value = 0, .default_text = "7d",
     .help = "Messages that wait for longer are dropped and counted, whatever expiry they came with."},
    {.section = "limits", .name = "queue_drop", .type = CONFIG_CHOICE, .reloadable = true,
     CONFIG_FIELD(limits.queue_drop), .choices = queue_drops, .default_text = "oldest",
     .help = "What happens when a queue is full. oldest: its oldest message is dropped for the new one; newest: the "
             "new one is not queued; reject: its publisher is told 0x97 Quota exceeded and nobody gets it. A publisher "
             "that cannot be told, before 5.0 or on another shard, sees newest. Every drop is counted."},
    {.section = "limits", .name = "output_bytes", .type = CONFIG_SIZE, .reloadable = true,
     CONFIG_FIELD(limits.output_bytes), .minimum = 4 * KIB, .maximum = GIB, .default_text = "1MiB",
     .help = "QoS 0 bytes that wait for one slow client before new ones are dropped and counted."},
    {.section = "limits", .name = "topic_alias", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(limits.topic_alias), .minimum = 0, .maximum = 65535, .default_text = "32",
     .help = "Topic aliases per client, each way. 0: none."},
    {.section = "limits", .name = "topic_levels", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(limits.topic_levels), .minimum = 1, .maximum = 65536, .default_text = "1024",
     .help = "Levels in a topic name or filter."},
    {.section = "limits", .name = "subscriptions", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(limits.subscriptions), .minimum = 1, .maximum = 10000000, .default_text = "10000",
     .help = "Subscriptions of one client. More are refused with Quota exceeded."},
    {.section = "limits", .name = "retained_messages", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(limits.retained_messages), .minimum = 1, .maximum = 1000000000, .special_word = "unlimited",
     .special_value = 0, .default_text = "100000",
     .help = "Retained messages in all. New topics beyond it are not retained. The broker's own $SYS values count too."},
    {.section = "limits", .name = "retained_bytes", .type = CONFIG_SIZE, .reloadable = true,
     CONFIG_FIELD(limits.retained_bytes), .minimum = KIB, .maximum = TIB, .default_text = "256MiB",
     .help = "The same limit in bytes of the retained messages."},
    {.section = "limits", .name = "keep_alive_max", .type = CONFIG_DURATION, .reloadable = true,
     CONFIG_FIELD(limits.keep_alive_max_s), .unit_ms = SECOND_MS, .minimum = 1, .maximum = 65535,
     .special_word = "unlimited", .special_value = 0, .default_text = "1h",
     .help = "The longest keep alive. 5.0 clients that ask for more, or for none, are told this as Server Keep "
             "Alive."},
    {.section = "limits", .name = "session_expiry_max", .type = CONFIG_DURATION, .reloadable = true,
     CONFIG_FIELD(limits.session_expiry_max_s), .unit_ms = SECOND_MS, .minimum = 0, .maximum = UINT32_MAX - 1,
     .special_word = "never", .special_value = UINT32_MAX, .default_text = "7d",
     .help = "How long a session outlives its connection at most, for persistent 3.1 and 3.1.1 sessions too."},

    {.section = "journal", .name = "durability", .type = CONFIG_CHOICE, CONFIG_FIELD(journal.durability),
     .choices = durabilities, .default_text = "commit",
     .help = "When a message that a session or the retained messages keep is acknowledged. commit: after it is safe on "
             "disk, so that neither a kill nor a power cut loses it; interval: at once, written at once and synced "
             "every journal.interval, so that a power cut loses what came since the last sync; memory: at once, "
             "without any file."},
    {.section = "journal", .name = "interval", .type = CONFIG_DURATION, CONFIG_FIELD(journal.interval_ms),
     .unit_ms = MS, .minimum = 1, .maximum = 3600 * SECOND_MS, .default_text = "100ms",
     .help = "Longest time from one sync to the next with durability interval."},
    {.section = "journal", .name = "segment", .type = CONFIG_SIZE, CONFIG_FIELD(journal.segment_bytes),
     .minimum = 64 * KIB, .maximum = GIB, .default_text = "16MiB",
     .help = "Size of the journal's files, at least twice limits.packet_size. Space is given back by whole files, and "
             "copying what is left in one takes as long as the file is large."},
    {.section = "journal", .name = "limit", .type = CONFIG_SIZE, CONFIG_FIELD(journal.limit_bytes),
     .minimum = 512 * KIB, .maximum = 1024 * TIB, .default_text = "8GiB",
     .help = "The most that all files of the journal take, the reserve included: at least journal.reserve, "
             "journal.replay and four segments together. At the limit what needs room is refused, as on a full disk, "
             "until subscribers or expiry have made room."},
    {.section = "journal", .name = "reserve", .type = CONFIG_SIZE, CONFIG_FIELD(journal.reserve_bytes),
     .minimum = 64 * KIB, .maximum = TIB, .default_text = "64MiB",
     .help = "Of the limit, kept free in files that exist already, so that acknowledgements, deletes and clearing up "
             "work on a full disk too. Rounded up to whole segments; at least four times limits.packet_size."},
    {.section = "journal", .name = "replay", .type = CONFIG_SIZE, CONFIG_FIELD(journal.replay_bytes),
     .minimum = 64 * KIB, .maximum = TIB, .default_text = "64MiB",
     .help = "The most that is read at a start after a kill, besides one checkpoint. Less makes starts quicker and "
             "writes more checkpoints."},

    {.section = "shared_subscriptions", .name = "strategy", .type = CONFIG_CHOICE, .reloadable = true,
     CONFIG_FIELD(limits.share_strategy), .choices = share_strategies, .default_text = "round_robin",
     .help = "Who gets the next message: each in turn, a random member, the one with the fewest unacknowledged "
             "messages, or always the same member for the same topic."},

    {.section = "metrics", .name = "listen", .type = CONFIG_HOST_PORT, CONFIG_FIELD(metrics.listen),
     .default_note = "off", .example = "127.0.0.1:9100",
     .help = "host:port for HTTP requests for /metrics and /healthz. They are answered without credentials."},

    {.section = "sys", .name = "interval", .type = CONFIG_DURATION, .reloadable = true, CONFIG_FIELD(sys.interval_s),
     .unit_ms = SECOND_MS, .minimum = 1, .maximum = DAY_S, .special_word = "off", .special_value = 0,
     .default_text = "10s",
     .help = "How often the topics below $SYS are published."},

    {.section = "log", .name = "level", .type = CONFIG_CHOICE, .reloadable = true, CONFIG_FIELD(log.level),
     .choices = log_levels, .default_text = "info",
     .help = "The least important events that are logged."},
    {.section = "log", .name = "format", .type = CONFIG_CHOICE, .reloadable = true, CONFIG_FIELD(log.format),
     .choices = log_formats, .default_text = "text",
     .help = "Lines for people, or one JSON object a line."},
};
// clang-format on
const size_t config_key_count = sizeof config_keys / sizeof config_keys[0];
static_assert(sizeof config_keys / sizeof config_keys[0] <= CONFIG_MAX_KEYS, "keys are remembered as bits");
static_assert(CONFIG_MAX_KEYS <= 64, "of a uint64_t");

size_t config_section_of(const char *path, char out[CONFIG_NAME_SIZE])
{
  size_t size = strcspn(path, ".[");
  size_t kept = size < CONFIG_NAME_SIZE ? size : CONFIG_NAME_SIZE - 1;
  memcpy(out, path, kept);
  out[kept] = '\0';
  return size;
}

const struct config_section *config_find_section(const char *name)
{
  for (size_t i = 0; i < config_section_count; i++)
    if (strcmp(config_sections[i].name, name) == 0) return &config_sections[i];
  return NULL;
}

const struct config_key *config_find_key(const char *section, const char *name)
{
  for (size_t i = 0; i < config_key_count; i++)
    if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0) return &config_keys[i];
  return NULL;
}
