// Every key of the configuration, once. libcyaml was considered for this: it parses by a schema too, but it cannot name the
// nearest known key, knows neither units nor what can be reloaded, and makes neither help nor documentation. So the table is
// ours, and YAML is read with libyaml, which says line and column of everything.
#include "broker/config_schema.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define FIELD(type_, field) .offset = offsetof(struct type_, field), .width = sizeof(((struct type_ *)0)->field)
#define CONFIG_FIELD(field) FIELD(config, field)
#define LISTENER_FIELD(field) FIELD(listener_config, field)

// A limit of the broker that a listener may have for its own clients: two rows.
#define LIMIT(name_, field, default_text_, example_, help_, ...)                                                            \
  {.section = "limits",                                                                                                     \
   .name = name_,                                                                                                           \
   .reloadable = true,                                                                                                      \
   CONFIG_FIELD(field),                                                                                                     \
   .default_text = default_text_,                                                                                           \
   .example = example_,                                                                                                     \
   .help = help_,                                                                                                           \
   __VA_ARGS__},                                                                                                            \
  {                                                                                                                         \
    .section = "listeners", .name = "limits." name_, .reloadable = true, LISTENER_FIELD(field),                             \
    .default_note = "limits." name_, .example = example_, .help = "The same as limits." name_ ", of this listener.",        \
    __VA_ARGS__                                                                                                             \
  }

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

enum { MS = 1, SECOND_MS = 1000, DAY_S = 86400 };

static const char *const share_strategies[] = {"round_robin", "random", "least_in_flight", "sticky", NULL};
static const char *const queue_drops[] = {"oldest", "newest", "reject", NULL};
static const char *const rate_actions[] = {"shape", "disconnect", NULL};
static const char *const durabilities[] = {"commit", "interval", "memory", NULL};
static const char *const auth_methods[] = {"cert", "password", "jwt", "scram", "psk", NULL};
static const char *const client_certs[] = {"none", "optional", "required", NULL};
static const char *const tls_versions[] = {"1.2", "1.3", NULL};
static const char *const tls_profiles[] = {"intermediate", "modern", NULL};
static const char *const acl_denieds[] = {"acknowledge", "disconnect", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

// The words stand in the order of the enums.
static_assert(SHARE_ROUND_ROBIN == 0 && SHARE_RANDOM == 1 && SHARE_LEAST_IN_FLIGHT == 2 && SHARE_STICKY == 3, "");
static_assert(QUEUE_DROP_OLDEST == 0 && QUEUE_DROP_NEWEST == 1 && QUEUE_REJECT == 2, "");
static_assert(RATE_SHAPE == 0 && RATE_DISCONNECT == 1, "");
static_assert(DURABILITY_COMMIT == 0 && DURABILITY_INTERVAL == 1 && DURABILITY_MEMORY == 2, "");
static_assert(AUTH_CERT == 0 && AUTH_PASSWORD == 1 && AUTH_JWT == 2 && AUTH_SCRAM == 3 && AUTH_PSK == 4 && AUTH_METHODS == 5,
              "");
static_assert(TLS_CLIENT_CERT_NONE == 0 && TLS_CLIENT_CERT_OPTIONAL == 1 && TLS_CLIENT_CERT_REQUIRED == 2, "");
static_assert(TLS_MIN_1_2 == 0 && TLS_MIN_1_3 == 1 && TLS_INTERMEDIATE == 0 && TLS_MODERN == 1, "");
static_assert(ACL_DENIED_ACKNOWLEDGE == 0 && ACL_DENIED_DISCONNECT == 1, "");
static_assert(LOG_ERROR == 0 && LOG_WARNING == 1 && LOG_INFO == 2 && LOG_DEBUG == 3, "");
static_assert(LOG_TEXT == 0 && LOG_JSON == 1, "");

const struct config_section config_sections[] = {
    {"broker", false, "The broker as a whole."},
    {"listeners", true,
     "Where clients connect: a list. An item is a URL, or a mapping with the keys below. Without this key there is one "
     "listener, "
     "mqtt://127.0.0.1:1883. A reload adds, changes and removes listeners; connections of those that stay are kept."},
    {"auth", false,
     "What clients are checked against who give credentials. A listener's auth says which of these it takes, and in which "
     "order. All files are "
     "read again when they change; one with a mistake in it is refused with a message, and the one before stays."},
    {"", false,
     "What clients may do, once they are in. Without a list everybody may do everything but publish to the broker's own "
     "topics, $SYS/# and "
     "$skerry/#. With one, the first rule that matches decides, in the order in which they stand, and what no rule matches "
     "is denied. A rule is "
     "{who: ..., allow: [...], topics: [...]}, with deny in the place of allow to deny: who is \"*\", anonymous, user:NAME, "
     "group:NAME, "
     "client:ID, listener:NAME, cert.ou:VALUE (or another field of the certificate) or jwt.CLAIM:VALUE, with * and ? as "
     "wildcards; the verbs are "
     "publish, subscribe and receive; topics are filters, with {client_id}, {username}, {cert.cn} and the like replaced. "
     "qos_max and retain (any, "
     "only, never) narrow an allowing rule. See skerry-acl(1), which explains decisions."},
    {"limits", false,
     "What one client, and all of them together, may use. Most of them can be set for the clients of one listener too, in "
     "limits of the listener. A reload applies them to what starts from then on, the rates to connected clients too."},
    {"journal", false,
     "How sessions, their queues and retained messages are kept in the directory journal/ of broker.data. Without "
     "broker.data nothing is kept on disk, and these keys have no effect."},
    {"shared_subscriptions", false, "How messages are dealt to the members of a shared subscription ($share/...)."},
    {"metrics", false, "Figures for Prometheus."},
    {"control", false,
     "How \"skerry ctl\" reaches the broker: to reload, to confirm a reload, to ask for its state, to list and disconnect "
     "clients."},
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

    {.section = "broker", .name = "user", .type = CONFIG_STRING, CONFIG_FIELD(broker.user), .minimum = 1, .maximum = 64,
     .default_note = "stay who started it", .example = "skerry",
     .help = "The system user to become after all sockets are open, for a broker that root starts. Keys, passwords and rules are read "
             "as this user, at the start as at a reload; broker.data is made for it. Ports below 1024 cannot be opened any "
             "more by a reload."},

    {.section = "listeners", .name = "url", .type = CONFIG_URL, .reloadable = true, LISTENER_FIELD(address),
     .default_note = "has to be given", .example = "mqtt://127.0.0.1:1883",
     .help = "mqtt://host:port, ws://host:port/path, mqtts:// and wss:// for the same with TLS, unix:///path, or "
             "systemd://name for a socket from the service manager. Host * (or none) is every address, IPv4 and IPv6; IPv6 addresses go in brackets; port 0 is "
             "any free port; a ws URL without path takes requests for every path."},
    {.section = "listeners", .name = "name", .type = CONFIG_STRING, .reloadable = true, LISTENER_FIELD(name), .minimum = 1,
     .maximum = 64, .default_note = "its url", .example = "plant-floor",
     .help = "What rules and logs call this listener."},
    {.section = "listeners", .name = "auth", .type = CONFIG_WORDS, .reloadable = true, LISTENER_FIELD(auth),
     .choices = auth_methods, .default_note = "cert when identity is set, otherwise none", .example = "[cert, password]",
     .help = "How clients show who they are, in the order in which it is tried; the first that applies decides. cert: by the "
             "certificate that they came with; password: by user name and password, from auth.passwords; jwt: by a token as "
             "the password, by auth.jwt; scram: SCRAM-SHA-256 by enhanced authentication of MQTT 5.0, from auth.passwords; "
             "psk: by the pre-shared key that the connection was made with, from auth.psk."},
    {.section = "listeners", .name = "anonymous", .type = CONFIG_BOOL, .reloadable = true, LISTENER_FIELD(anonymous),
     .default_note = "true on loopback and unix sockets without auth, otherwise false",
     .help = "Let clients in that give no credentials. A listener that the network reaches needs auth, or this as an explicit "
             "word."},
    {.section = "listeners", .name = "identity", .type = CONFIG_STRING, .reloadable = true, LISTENER_FIELD(identity),
     .minimum = 1, .maximum = 256, .default_note = "cert.cn with auth: [cert]", .example = "cert.san_uri",
     .help = "Which name of a client's certificate is its user name: cert.cn, cert.san_dns, cert.san_uri, cert.san_email, or a "
             "pattern with such names in braces: {cert.ou}-{cert.cn}."},
    {.section = "listeners", .name = "passwords", .type = CONFIG_PATH, .reloadable = true, LISTENER_FIELD(passwords),
     .minimum = 1, .maximum = 4000, .default_note = "auth.passwords", .example = "line-7.txt",
     .help = "A password file of this listener's own."},
    {.section = "listeners", .name = "tls.cert", .type = CONFIG_PATH, .reloadable = true, LISTENER_FIELD(tls.main.cert),
     .minimum = 1, .maximum = 4000, .default_note = "has to be given for mqtts and wss, but for pre-shared keys alone",
     .example = "server.pem",
     .help = "The certificate, PEM: the broker's own, then those between it and the root. It is checked at the start and at "
             "every change: that the key fits, that the chain builds, that it holds today, that the key is large enough."},
    {.section = "listeners", .name = "tls.key", .type = CONFIG_PATH, .reloadable = true, LISTENER_FIELD(tls.main.key),
     .minimum = 1, .maximum = 4000, .default_note = "has to be given with tls.cert", .example = "server.key",
     .help = "Its private key, PEM, not encrypted."},
    {.section = "listeners", .name = "tls.ocsp", .type = CONFIG_PATH, .reloadable = true, LISTENER_FIELD(tls.main.ocsp),
     .minimum = 1, .maximum = 4000, .default_note = "nothing is stapled", .example = "server.ocsp",
     .help = "An OCSP response for it, DER, that clients get who ask for one."},
    {.section = "listeners", .name = "tls.certificates", .type = CONFIG_CERTIFICATES, .reloadable = true,
     LISTENER_FIELD(tls.certificates), .default_note = "none", .example = "[{cert: b.pem, key: b.key}]",
     .help = "Further certificates, each with key and perhaps ocsp, for clients that name a host (SNI) that one of these is for. "
             "Others get tls.cert."},
    {.section = "listeners", .name = "tls.client_ca", .type = CONFIG_PATH, .reloadable = true,
     LISTENER_FIELD(tls.client_ca), .minimum = 1, .maximum = 4000, .default_note = "clients need no certificates",
     .example = "ca.pem",
     .help = "The authorities, PEM, whose certificates clients may come with."},
    {.section = "listeners", .name = "tls.client_cert", .type = CONFIG_CHOICE, .reloadable = true,
     LISTENER_FIELD(tls.client_cert), .choices = client_certs,
     .default_note = "required with tls.client_ca, otherwise none", .example = "optional",
     .help = "Whether clients are asked for a certificate, and whether they need one. One that is shown has to be good in "
             "either case."},
    {.section = "listeners", .name = "tls.crl", .type = CONFIG_PATH, .reloadable = true, LISTENER_FIELD(tls.crl),
     .minimum = 1, .maximum = 4000, .default_note = "nothing is revoked", .example = "crl.pem",
     .help = "Lists of revoked certificates, PEM, by the authorities in tls.client_ca. When a new list revokes the certificate of "
             "a client that is connected, it is disconnected."},
    {.section = "listeners", .name = "tls.min_version", .type = CONFIG_CHOICE, .reloadable = true,
     LISTENER_FIELD(tls.min_version), .choices = tls_versions, .default_text = "1.2",
     .help = "The oldest version of TLS that is taken."},
    {.section = "listeners", .name = "tls.profile", .type = CONFIG_CHOICE, .reloadable = true, LISTENER_FIELD(tls.profile),
     .choices = tls_profiles, .default_text = "intermediate",
     .help = "Mozilla's sets of ciphers. modern is TLS 1.3 alone."},
    {.section = "listeners", .name = "tls.psk", .type = CONFIG_PATH, .reloadable = true, LISTENER_FIELD(tls.psk),
     .minimum = 1, .maximum = 4000, .default_note = "auth.psk", .example = "line-7-psk.txt",
     .help = "Pre-shared keys of this listener's own."},
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

    {.section = "auth", .name = "passwords", .type = CONFIG_PATH, .reloadable = true, CONFIG_FIELD(auth.passwords),
     .minimum = 1, .maximum = 4000, .default_note = "not set", .example = "passwd.txt",
     .help = "The password file, as \"skerry passwd\" keeps it; those of Mosquitto are read too."},
    {.section = "auth", .name = "psk", .type = CONFIG_PATH, .reloadable = true, CONFIG_FIELD(auth.psk), .minimum = 1,
     .maximum = 4000, .default_note = "not set", .example = "psk.txt",
     .help = "Pre-shared keys for TLS, a line each: identity:key, the key in hexadecimal digits. The identity is the user name."},
    {.section = "auth", .name = "jwt.jwks", .type = CONFIG_PATH, .reloadable = true, CONFIG_FIELD(auth.jwt.jwks),
     .minimum = 1, .maximum = 4000, .default_note = "not set", .example = "keys.json",
     .help = "The keys (a JWK set) by one of which tokens have to be signed: RS256, ES256, EdDSA or HS256."},
    {.section = "auth", .name = "jwt.issuer", .type = CONFIG_STRING, .reloadable = true, CONFIG_FIELD(auth.jwt.issuer),
     .minimum = 1, .maximum = 1000, .default_note = "any", .example = "https://login.example.com",
     .help = "The issuer (iss) that tokens have to name."},
    {.section = "auth", .name = "jwt.audience", .type = CONFIG_STRING, .reloadable = true, CONFIG_FIELD(auth.jwt.audience),
     .minimum = 1, .maximum = 1000, .default_note = "any", .example = "plant-7",
     .help = "The audience (aud) that tokens have to name."},
    {.section = "auth", .name = "jwt.username", .type = CONFIG_STRING, .reloadable = true, CONFIG_FIELD(auth.jwt.username),
     .minimum = 1, .maximum = 128, .default_text = "sub",
     .help = "The claim that holds the user name."},
    {.section = "auth", .name = "jwt.groups", .type = CONFIG_STRING, .reloadable = true, CONFIG_FIELD(auth.jwt.groups),
     .minimum = 1, .maximum = 128, .default_text = "groups",
     .help = "The claim that holds the groups, a text or a list of texts."},
    {.section = "auth", .name = "jwt.leeway", .type = CONFIG_DURATION, .reloadable = true,
     CONFIG_FIELD(auth.jwt.leeway_s), .unit_ms = SECOND_MS, .minimum = 0, .maximum = 3600, .default_text = "30s",
     .help = "How far the clocks of issuer and broker may differ."},

    {.section = "", .name = "acl", .type = CONFIG_ACL, .reloadable = true, CONFIG_FIELD(acl), .minimum = 1, .maximum = 4000,
     .default_note = "no list", .example = "acl.yaml",
     .help = "The list of rules itself, or the path of a file that holds it; a file in the form of Mosquitto's acl_file is read "
             "too. A reload and a changed file apply to clients that are connected."},
    {.section = "", .name = "acl_shadow", .type = CONFIG_PATH, .reloadable = true, CONFIG_FIELD(acl_shadow), .minimum = 1,
     .maximum = 4000, .default_note = "none", .example = "acl-next.yaml",
     .help = "A list on trial: what it would deny is logged and counted, and not denied."},
    {.section = "", .name = "acl_denied", .type = CONFIG_CHOICE, .reloadable = true, CONFIG_FIELD(acl_denied),
     .choices = acl_denieds, .default_text = "acknowledge",
     .help = "What happens to a PUBLISH that a client before 5.0, which cannot be told, may not send: it is acknowledged and "
             "dropped, or the connection is closed."},

    {.section = "limits", .name = "connections", .type = CONFIG_INTEGER, .reloadable = true, CONFIG_FIELD(connections),
     .minimum = 1, .maximum = 10000000, .default_text = "10000",
     .help = "Connections at a time, on all listeners. More are closed at once."},
    LIMIT("connection_rate", connection_rate, "unlimited", "500",
          "New connections per second and listener. More wait in the system's queue.",
          .type = CONFIG_INTEGER, .minimum = 1, .maximum = 1000000, .special_word = "unlimited", .special_value = 0),
    LIMIT("connections_per_address", connections_per_address, "unlimited", "200",
          "Connections at a time from one address to one listener, IPv6 addresses by their first 64 bits; behind a "
          "proxy those that the PROXY header tells. More are closed at once. Devices behind one router count as one "
          "address.",
          .type = CONFIG_INTEGER, .minimum = 1, .maximum = 10000000, .special_word = "unlimited", .special_value = 0),
    LIMIT("connect_timeout", limits.connect_timeout_ms, "10s", "10s",
          "How long a new connection has until its CONNECT packet is complete.",
          .type = CONFIG_DURATION, .unit_ms = MS, .minimum = 100, .maximum = 600 * SECOND_MS),
    LIMIT("message_rate", limits.message_rate, "unlimited", "100",
          "PUBLISH packets per second from one client, in the long run. limits.rate_burst says what it may send at "
          "once, limits.rate_action what happens beyond it.",
          .type = CONFIG_INTEGER, .minimum = 1, .maximum = 10000000, .special_word = "unlimited", .special_value = 0),
    LIMIT("byte_rate", limits.byte_rate, "unlimited", "64KiB",
          "The same in bytes of MQTT packets of any type.",
          .type = CONFIG_SIZE, .minimum = KIB, .maximum = TIB, .special_word = "unlimited", .special_value = 0),
    LIMIT("rate_burst", limits.rate_burst_ms, "1s", "10s",
          "How much of both rates a client that was silent may save up and send at once: what they allow in so "
          "long, but at least one message, and one packet of limits.packet_size.",
          .type = CONFIG_DURATION, .unit_ms = MS, .minimum = 1, .maximum = 3600 * SECOND_MS),
    LIMIT("rate_action", limits.rate_action, "shape", "disconnect",
          "What happens to a client that sends more. shape: it is not read from until it may send again, so that it "
          "sends no faster and loses nothing; disconnect: its connection is closed, of 5.0 clients with 0x96 "
          "Message rate too high.",
          .type = CONFIG_CHOICE, .choices = rate_actions),
    LIMIT("packet_size", limits.packet_size, "1MiB", "1MiB",
          "The largest MQTT packet that is accepted. Told to 5.0 clients as Maximum Packet Size. With a journal, at "
          "most half of journal.segment and a quarter of journal.reserve.",
          .type = CONFIG_SIZE, .minimum = 256, .maximum = 256 * MIB),
    LIMIT("in_flight", limits.in_flight, "32", "32",
          "QoS 1 and 2 messages that a client may have unacknowledged, each way. Told to 5.0 clients as Receive "
          "Maximum.",
          .type = CONFIG_INTEGER, .minimum = 1, .maximum = 65535),
    LIMIT("queue_messages", limits.queue_messages, "100000", "100000",
          "QoS 1 and 2 messages that wait for one session; limits.queue_drop says what happens beyond it. 0 is "
          "unlimited: then the bytes and the age count alone.",
          .type = CONFIG_INTEGER, .minimum = 1, .maximum = 1000000000, .special_word = "unlimited", .special_value = 0),
    LIMIT("queue_bytes", limits.queue_bytes, "64MiB", "64MiB",
          "The same limit in bytes of the waiting messages.",
          .type = CONFIG_SIZE, .minimum = KIB, .maximum = TIB),
    LIMIT("queue_age", limits.queue_age_s, "7d", "7d",
          "Messages that wait for longer are dropped and counted, whatever expiry they came with.",
          .type = CONFIG_DURATION, .unit_ms = SECOND_MS, .minimum = 1, .maximum = 3650 * DAY_S,
          .special_word = "unlimited", .special_value = 0),
    LIMIT("queue_drop", limits.queue_drop, "oldest", "oldest",
          "What happens when a queue is full. oldest: its oldest message is dropped for the new one; newest: the "
          "new one is not queued; reject: its publisher is told 0x97 Quota exceeded and nobody gets it. A publisher "
          "that cannot be told, before 5.0 or on another shard, sees newest. Every drop is counted.",
          .type = CONFIG_CHOICE, .choices = queue_drops),
    LIMIT("output_bytes", limits.output_bytes, "1MiB", "1MiB",
          "QoS 0 bytes that wait for one slow client before new ones are dropped and counted.",
          .type = CONFIG_SIZE, .minimum = 4 * KIB, .maximum = GIB),
    LIMIT("topic_alias", limits.topic_alias, "32", "32",
          "Topic aliases per client, each way. 0: none.",
          .type = CONFIG_INTEGER, .minimum = 0, .maximum = 65535),
    LIMIT("topic_levels", limits.topic_levels, "1024", "1024",
          "Levels in a topic name or filter.",
          .type = CONFIG_INTEGER, .minimum = 1, .maximum = 65535),
    LIMIT("subscriptions", limits.subscriptions, "10000", "10000",
          "Subscriptions of one client. More are refused with Quota exceeded.",
          .type = CONFIG_INTEGER, .minimum = 1, .maximum = 10000000),
    {.section = "limits", .name = "retained_messages", .type = CONFIG_INTEGER, .reloadable = true,
     CONFIG_FIELD(limits.retained_messages), .minimum = 1, .maximum = 1000000000, .special_word = "unlimited",
     .special_value = 0, .default_text = "100000",
     .help = "Retained messages in all. New topics beyond it are not retained. The broker's own $SYS values count too."},
    {.section = "limits", .name = "retained_bytes", .type = CONFIG_SIZE, .reloadable = true,
     CONFIG_FIELD(limits.retained_bytes), .minimum = KIB, .maximum = TIB, .default_text = "256MiB",
     .help = "The same limit in bytes of the retained messages."},
    LIMIT("keep_alive_max", limits.keep_alive_max_s, "1h", "1h",
          "The longest keep alive. 5.0 clients that ask for more, or for none, are told this as Server Keep Alive.",
          .type = CONFIG_DURATION, .unit_ms = SECOND_MS, .minimum = 1, .maximum = 65535,
          .special_word = "unlimited", .special_value = 0),
    LIMIT("session_expiry_max", limits.session_expiry_max_s, "7d", "7d",
          "How long a session outlives its connection at most, for persistent 3.1 and 3.1.1 sessions too.",
          .type = CONFIG_DURATION, .unit_ms = SECOND_MS, .minimum = 0, .maximum = UINT32_MAX - 1,
          .special_word = "never", .special_value = UINT32_MAX),

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

    {.section = "control", .name = "socket", .type = CONFIG_PATH, .reloadable = true, CONFIG_FIELD(control.socket),
     .minimum = 1, .maximum = LISTEN_UNIX_PATH_MAX, .default_note = "none", .example = "/run/skerry/control.sock",
     .help = "The unix socket that \"skerry ctl\" speaks to. Who can open it may do all that it can; the file's permissions "
             "decide who that is."},
    {.section = "control", .name = "mode", .type = CONFIG_MODE, .reloadable = true, CONFIG_FIELD(control.mode),
     .minimum = 0, .maximum = 0770, .default_text = "0600",
     .help = "Its permissions, octal."},

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
static_assert(CONFIG_MAX_KEYS % 64 == 0, "in whole words");

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

const struct config_key *config_find_group(const char *section, const char *name)
{
  size_t size = strlen(name);
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    if (strcmp(key->section, section) == 0 && strncmp(key->name, name, size) == 0 && key->name[size] == '.') return key;
  }
  return NULL;
}

void config_key_path(const struct config_key *key, char *out, size_t size)
{
  const char *dot = key->section[0] ? "." : "";
  snprintf(out, size, "%s%s%s%s", key->section, config_find_section(key->section)->list ? "[]" : "", dot, key->name);
}
