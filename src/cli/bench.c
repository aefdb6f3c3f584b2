// `skerry bench`: the command line of the load generator. The modes are in files of their own.
#include "cli/bench.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "cli/bench_shape.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "mqtt/topic.h"

enum { SPARE_DESCRIPTORS = 16, RAW_GROUPS = 256, LATENCY_RATE = 1000, BACKLOG_MESSAGES = 100000, PREFIX_MAX = 64 };

static enum status apply_version(void *target, struct option_words *words, struct error *error)
{
  struct bench_options *options = target;
  return client_read_version(option_word(words), &options->version, error);
}

static enum status apply_url(void *target, struct option_words *words, struct error *error)
{
  struct bench_options *options = target;
  return client_read_url(option_word(words), &options->url, error);
}

#define FIELD(name) offsetof(struct bench_options, name)

static const struct option connection_options[] = {
    {'h', "host", "HOST", "Broker to connect to (127.0.0.1).", OPTION_TEXT, FIELD(host), 0, 0, NULL},
    {'p', "port", "PORT", "Its port (1883, with TLS 8883).", OPTION_UINT, FIELD(port), 1, 65535, NULL},
    {0, "unix", "PATH", "Connect to a Unix socket instead.", OPTION_TEXT, FIELD(unix_path), 0, 0, NULL},
    {'L', "url", "URL",
     "Instead: mqtt://[user[:password]@]host[:port], ws://host[:port][/path], as mqtts:// and wss:// with TLS, or "
     "unix:///path.",
     OPTION_APPLY, 0, 0, 0, apply_url},
    {'u', "username", "NAME", "User name.", OPTION_TEXT, FIELD(user_name), 0, 0, NULL},
    {'P', "pw", "PASSWORD", "Password. All users of this machine can see it; better is --pw-file.", OPTION_TEXT,
     FIELD(password), 0, 0, NULL},
    {0, "pw-file", "FILE", "Password, the first line of a file.", OPTION_TEXT, FIELD(password_file), 0, 0, NULL},
    {'V', "protocol-version", "VERSION", "3.1, 3.1.1 or 5 (5).", OPTION_APPLY, 0, 0, 0, apply_version},
    {0, "at-once", "N", "Connections on their way at a time (100).", OPTION_UINT, FIELD(at_once), 1, 10000, NULL},
    {0, "sources", "N", "Spread connections over N loopback addresses (1); each has 28,000 ports.", OPTION_UINT,
     FIELD(sources), 1, 250, NULL},
    {0, "raw", NULL, "No handshake: for the bare forwarder of bench/.", OPTION_FLAG, FIELD(raw), 0, 0, NULL},
};

static const struct option load_options[] = {
    {0, "publishers", "N", "Publishing clients (1).", OPTION_UINT, FIELD(publishers), 1, 10000, NULL},
    {0, "subscribers", "N", "Subscribing clients (1).", OPTION_UINT, FIELD(subscribers), 0, 10000, NULL},
    {0, "topics", "N",
     "Topics, over which both sides are dealt out in turn (1). As many as publishers and subscribers makes pairs.",
     OPTION_UINT, FIELD(topics), 1, 10000, NULL},
    {0, "filters", "N",
     "Instead: N wildcard filters for each subscriber, 200 topics for each publisher. A message is for subscribers * N / "
     "200.",
     OPTION_UINT, FIELD(filters), 1, SHAPE_WILDCARD_TOPICS, NULL},
    {'q', "qos", "QOS", "Quality of service, both ways (0; backlog: 1).", OPTION_UINT, FIELD(qos), 0, 2, NULL},
    {0, "payload", "BYTES", "Size of a message's payload (64).", OPTION_UINT, FIELD(payload_bytes), SHAPE_STAMP_SIZE,
     1000000, NULL},
    {0, "window", "N", "QoS 1 and 2: messages in flight of each publisher (100), or less when the broker grants less.",
     OPTION_UINT, FIELD(window), 1, 65535, NULL},
    {0, "ahead", "N",
     "How far a publisher may be ahead of its slowest subscriber. Default:\n1000 or 128 KiB towards a subscriber, split "
     "among its publishers.",
     OPTION_UINT, FIELD(ahead), 1, 1000000, NULL},
    {0, "rate", "N", "Messages a second of all publishers; measures latencies (latency: 1000).", OPTION_UINT, FIELD(rate), 1,
     10000000, NULL},
    {0, "seconds", "TIME", "How long to measure (5).", OPTION_DURATION, FIELD(duration_ms), 1, 600000, NULL},
    {0, "warm-up", "TIME", "How long to run before (0.5).", OPTION_DURATION, FIELD(warm_up_ms), 0, 600000, NULL},
    {0, "messages", "N", "Send and measure so many, instead of for a time (backlog: 100000).", OPTION_UINT, FIELD(messages),
     1, 4000000000, NULL},
    {0, "prefix", "TOPIC", "First levels of all topics (bench).", OPTION_TEXT, FIELD(prefix), 0, 0, NULL},
};

static const struct option crowd_options[] = {
    {0, "connections", "N", "How many clients connect (1000).", OPTION_UINT, FIELD(connections), 1, 1000000, NULL},
    {0, "subscribe", NULL, "Each subscribes to a topic of its own.", OPTION_FLAG, FIELD(subscribe), 0, 0, NULL},
    {0, "idle", "TIME", "How long they stay, silently (0).", OPTION_DURATION, FIELD(idle_ms), 0, 3600000, NULL},
};

static const struct option backlog_options[] = {
    {0, "keep", NULL, "Only queue: the client does not return, its messages stay.", OPTION_FLAG, FIELD(keep), 0, 0, NULL},
};

static const struct option measure_options[] = {
    {0, "broker-pid", "PID", "Measure the CPU time and memory of this process.", OPTION_UINT, FIELD(broker_pid), 1,
     INT32_MAX, NULL},
    {0, "timeout", "TIME", "Give up when nothing has moved for so long (10).", OPTION_DURATION, FIELD(timeout_ms), 100,
     600000, NULL},
    {0, "quiet", NULL, "No progress on the terminal.", OPTION_FLAG, FIELD(quiet), 0, 0, NULL},
};

static const char notes[] =
    "Modes:\n"
    "  throughput   as many messages as come back; the default\n"
    "  latency      messages at a fixed rate, timed from when each was due, so that a stall counts for all it delayed\n"
    "  connections  clients that connect and stay\n"
    "  backlog      messages for a client that is away, then its return\n"
    "\n"
    "Every message carries its publisher, number and time. Loss, wrong order (both at any QoS), repetition (QoS 0 and 2) "
    "and\n"
    "refused messages make the run fail. The result is one line of JSON on stdout. Exit codes: 0 all arrived, 1 not, 2 "
    "usage.";

struct mode {
  const char *name;
  int (*run)(const struct bench_options *options);
};

static const struct mode modes[] = {
    {"throughput", bench_throughput},
    {"latency", bench_throughput},
    {"connections", bench_connections},
    {"backlog", bench_backlog},
};

static const struct mode *find_mode(const char *name)
{
  for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
    if (strcmp(name, modes[i].name) == 0) return &modes[i];
  return NULL;
}

static void fill_in(const struct mode *mode, struct bench_options *options)
{
  if (strcmp(mode->name, "latency") == 0 && options->rate == 0) options->rate = LATENCY_RATE;
  if (mode->run == bench_backlog) {
    options->subscribers = options->topics = 1;
    options->filters = options->rate = 0;
    if (options->qos == 0) options->qos = 1;
    if (options->messages == 0) options->messages = BACKLOG_MESSAGES;
  }
}

static const char *wrong_combination(const struct mode *mode, const struct bench_options *options)
{
  if (options->topics > options->publishers) return "--topics: more topics than publishers; some would stay silent";
  if (options->subscribers && options->topics > options->subscribers)
    return "--topics: more topics than subscribers; some would be heard by nobody";
  if (options->filters && options->topics > 1) return "--filters and --topics cannot be combined";
  if (options->prefix[0] == '\0' || strlen(options->prefix) > PREFIX_MAX || strpbrk(options->prefix, "+#") ||
      !mqtt_utf8_valid(span_text(options->prefix)))
    return "--prefix must have 1 to 64 bytes of UTF-8 and no wildcards";
  if (!options->raw) return NULL;
  if (mode->run != bench_throughput || options->filters) return "--raw works with throughput and latency, without --filters";
  if (options->topics > RAW_GROUPS) return "--raw takes at most 256 topics";
  return NULL;
}

// Whom to connect to, and how. ERR_INVALID: the command line.
static enum status settle_address(struct bench_options *options, struct error *error)
{
  const struct url *url = &options->url;
  bool by_url = url->memory != NULL, tls = by_url ? url->tls : client_tls_given(&options->tls_options);
  if (by_url && (options->host || options->port || options->unix_path))
    return error_set(error, ERR_INVALID, "-L names the broker already; leave out -h, -p and --unix");
  if (client_tls_given(&options->tls_options) && !tls)
    return error_set(error, ERR_INVALID, "with options of TLS the URL begins with mqtts://");
  if (by_url && url->kind == URL_UNIX) options->unix_path = url->path;
  if (by_url && url->kind == URL_WEBSOCKET) options->websocket_path = url->path ? url->path : "/mqtt";
  if (tls && options->unix_path)
    return error_set(error, ERR_INVALID, "TLS is not spoken over a Unix socket; leave out --unix");
  if (options->raw && (tls || options->websocket_path))
    return error_set(error, ERR_INVALID, "--raw is for plain connections: no TLS, no WebSocket");
  if (options->password && options->password_file)
    return error_set(error, ERR_INVALID, "the password is given twice, by --pw-file and by -P");
  if (by_url) {
    options->host = url->host;
    options->port = url->port;
    if (!options->user_name) options->user_name = url->user_name;
    if (!options->password) options->password = url->password;
  }
  if (options->user_name && !mqtt_utf8_valid(span_text(options->user_name)))
    return error_set(error, ERR_INVALID, "the user name is not UTF-8");
  if (!options->host) options->host = "127.0.0.1";
  if (!options->port) options->port = tls ? URL_PORT_MQTTS : URL_PORT_MQTT;
  options->use_tls = tls;
  return client_tls_check(&options->tls_options, error);
}

static enum status read_files(struct bench_options *options, struct error *error)
{
  enum status status = OK;
  if (options->password_file) status = client_read_password(options->password_file, &options->password_read, error);
  if (status != OK) return status;
  if (options->password_file) options->password = options->password_read;
  if (!options->use_tls) return OK;
  client_tls_warn(&options->tls_options, "bench");
  return client_tls_load(&options->tls_options, options->websocket_path ? "http/1.1" : "mqtt", &options->tls, error);
}

static void free_options(struct bench_options *options)
{
  tls_client_unref(options->tls);
  if (options->password_read) explicit_bzero(options->password_read, strlen(options->password_read));
  free(options->password_read);
  url_deinit(&options->url);
}

static bool raise_descriptors(const struct mode *mode, const struct bench_options *options)
{
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return true;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
  uint64_t needed = mode->run == bench_connections ? options->connections : options->publishers + options->subscribers;
  needed += SPARE_DESCRIPTORS;
  if (needed <= limit.rlim_max) return true;
  fprintf(stderr, "skerry bench: needs %lu descriptors, the hard limit (ulimit -Hn) is %lu\n", (unsigned long)needed,
          (unsigned long)limit.rlim_max);
  return false;
}

static int run(const struct mode *mode, struct bench_options *options)
{
  struct error error = {0};
  int code = COMMAND_USAGE;
  enum status status = settle_address(options, &error);
  if (status == OK) {
    code = COMMAND_FAILED;
    status = read_files(options, &error);
  }
  if (status != OK) {
    fprintf(stderr, "skerry bench: %s\n", error.text);
  } else if (raise_descriptors(mode, options)) {
    // Wake up when a message is due, not up to 50 us later.
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    code = mode->run(options);
  }
  free_options(options);
  return code;
}

int bench_command(int argc, char **argv)
{
  struct bench_options options = {.prefix = "bench",
                                  .version = MQTT_5_0,
                                  .publishers = 1,
                                  .subscribers = 1,
                                  .topics = 1,
                                  .window = 100,
                                  .payload_bytes = 64,
                                  .duration_ms = 5000,
                                  .warm_up_ms = 500,
                                  .timeout_ms = 10000,
                                  .connections = 1000,
                                  .at_once = 100,
                                  .sources = 1};
  const struct option_section sections[] = {OPTION_SECTION("Connection", connection_options, &options),
                                            client_tls_section(&options.tls_options),
                                            OPTION_SECTION("Load", load_options, &options),
                                            OPTION_SECTION("Connections mode", crowd_options, &options),
                                            OPTION_SECTION("Backlog mode", backlog_options, &options),
                                            OPTION_SECTION("Measuring", measure_options, &options)};
  const struct option_command command = {
      .name = "bench",
      .summary = "Loads a broker, measures it, and verifies every message.",
      .usage = "[throughput] [OPTIONS]\nlatency [OPTIONS]\nconnections [OPTIONS]\nbacklog [OPTIONS]",
      .notes = notes,
      .sections = sections,
      .section_count = sizeof sections / sizeof sections[0],
      .positional_maximum = 1};
  int positional = 0;
  int code = options_begin(&command, argc, argv, &positional);
  if (code >= 0) return code;
  const struct mode *mode = find_mode(positional ? argv[1] : "throughput");
  if (!mode) {
    fprintf(stderr, "skerry bench: \"%s\" is no mode; known are throughput, latency, connections and backlog\n", argv[1]);
    return COMMAND_USAGE;
  }
  fill_in(mode, &options);
  const char *wrong = wrong_combination(mode, &options);
  if (wrong) {
    fprintf(stderr, "skerry bench: %s\n", wrong);
    return COMMAND_USAGE;
  }
  return run(mode, &options);
}
