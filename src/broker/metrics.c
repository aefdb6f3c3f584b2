// /metrics: one table of what there is, and its text. docs/metrics.md comes from the same table.
#include "broker/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/utf8.h"
#include "broker/process_stats.h"
#include "broker/watch_tables.h"
#include "mqtt/packet.h"

enum { LINE_SIZE = 1024 };

#define VIEW(field) .offset = offsetof(struct status_view, field)
#define TOTAL(field) .source = METRIC_U64, VIEW(total.field)
#define NET(field) .source = METRIC_U64, VIEW(net.field)
#define AUTH(field) VIEW(authentication.field)
#define PROCESS(field) .source = METRIC_PROCESS, .offset = offsetof(struct process_stats, field)
#define SHARD(field) .labels = "shard", .source = METRIC_SHARDS, .offset = offsetof(struct counters, field)
#define JOURNAL(field) .source = METRIC_JOURNAL, .offset = offsetof(struct store_counters, field)
#define LIMIT_REACHED(limit_, ...)                                                                                          \
  {                                                                                                                         \
    "skerry_limit_reached_total", .labels = "limit", .series = "limit=\"" limit_ "\"", __VA_ARGS__                          \
  }
#define COUNTER(text) .type = METRIC_COUNTER, .help = (text)
#define GAUGE(text) .type = METRIC_GAUGE, .help = (text)

// Rows of one name stand together. Their order is that of the page.
static const struct metric table[] = {
    // The ledger, first half
    {"skerry_publish_received_total",
     COUNTER("PUBLISH packets taken from clients. At every scrape equal to skerry_publish_routed_total + "
             "skerry_publish_unrouted_total + the sum of skerry_publish_refused_total."),
     TOTAL(publish_received)},
    {"skerry_publish_routed_total", COUNTER("Received messages that had a subscriber, however many."),
     TOTAL(publish_routed)},
    {"skerry_publish_unrouted_total", COUNTER("Received messages that nobody had subscribed to."), TOTAL(publish_unrouted)},
    {"skerry_publish_refused_total", COUNTER("Received messages that were not taken, by reason."), .labels = "reason",
     .source = METRIC_REFUSED},
    {"skerry_publish_received_bytes_total", COUNTER("Payload bytes of received messages."), TOTAL(publish_received_bytes)},

    // The ledger, second half
    {"skerry_copies_total",
     COUNTER("Copies of messages made for sessions, one per session and message; wills, retained messages and $SYS make "
             "copies too. At every scrape equal to skerry_copies_delivered_total + skerry_copies_queued + "
             "skerry_copies_in_flight + skerry_copies_expired_total + the sum of skerry_copies_dropped_total."),
     TOTAL(copies)},
    {"skerry_copies_delivered_total", COUNTER("Copies that reached the subscriber: written at QoS 0, acknowledged above."),
     TOTAL(delivered)},
    {"skerry_copies_queued", GAUGE("Copies that wait to be sent."), TOTAL(copies_queued)},
    {"skerry_copies_in_flight", GAUGE("Copies at QoS 1 or 2 that were sent and not yet acknowledged."),
     TOTAL(copies_in_flight)},
    {"skerry_copies_expired_total", COUNTER("Copies whose message expiry passed before they were sent."), TOTAL(expired)},
    {"skerry_copies_dropped_total", COUNTER("Copies that were not delivered, by reason."), .labels = "reason",
     .source = METRIC_DROPPED},
    {"skerry_copies_delivered_bytes_total", COUNTER("Payload bytes of PUBLISH packets sent, repetitions included."),
     TOTAL(delivered_bytes)},
    {"skerry_copies_queued_bytes", GAUGE("Bytes of the messages whose copies wait to be sent."), TOTAL(queued_bytes)},
    {"skerry_copies_redelivered_total", COUNTER("Copies that were sent again with DUP; not part of the balance."),
     TOTAL(redelivered)},

    // Clients
    {"skerry_clients", GAUGE("Clients that are connected: connections past CONNECT."), TOTAL(clients)},
    {"skerry_connections", GAUGE("Connections that are open, whether or not they have sent CONNECT."), TOTAL(connections)},
    {"skerry_connections_accepted_total", COUNTER("Connections that listeners accepted."), NET(accepted)},
    {"skerry_connections_refused_total",
     COUNTER("Connections closed before MQTT: a connection limit (limit, address), or (after they were accepted) a faulty "
             "PROXY header, "
             "record of TLS, WebSocket handshake or frame."),
     .labels = "reason", .series = "reason=\"limit\"", NET(refused_limit)},
    {"skerry_connections_refused_total", .labels = "reason", .series = "reason=\"address\"", NET(refused_address)},
    {"skerry_connections_refused_total", .labels = "reason", .series = "reason=\"framing\"", NET(refused_framing)},
    {"skerry_connections_paused", GAUGE("Connections that are not read from at the moment, to bound memory or a rate."),
     TOTAL(paused_connections)},
    {"skerry_accept_errors_total", COUNTER("Times that accepting failed and was put off, for want of descriptors say."),
     NET(accept_errors)},
    {"skerry_tls_handshakes_total",
     COUNTER("TLS handshakes that came through: full ones, and resumptions of a session from before."), .labels = "result",
     .series = "result=\"full\"", NET(tls_full)},
    {"skerry_tls_handshakes_total", .labels = "result", .series = "result=\"resumed\"", NET(tls_resumed)},
    {"skerry_tls_handshake_failures_total",
     COUNTER(
         "TLS handshakes that did not: the sides did not agree (error), the peer gave up (closed), limits.connect_timeout "
         "passed (timeout), or too many were in progress (crowded)."),
     .labels = "reason", .series = "reason=\"error\"", NET(tls_failed)},
    {"skerry_tls_handshake_failures_total", .labels = "reason", .series = "reason=\"closed\"", NET(tls_closed)},
    {"skerry_tls_handshake_failures_total", .labels = "reason", .series = "reason=\"timeout\"", NET(tls_timeouts)},
    {"skerry_tls_handshake_failures_total", .labels = "reason", .series = "reason=\"crowded\"", NET(tls_crowded)},
    {"skerry_tls_handshakes_in_progress", GAUGE("TLS handshakes that have begun."), NET(tls_in_progress)},
    {"skerry_tls_connections", GAUGE("Open connections with TLS, past their handshake."), NET(tls_connections)},
    {"skerry_tls_revoked_total",
     COUNTER("Connections ended because a new CRL names the client's certificate, or its pre-shared key is gone."),
     NET(tls_revoked)},
    {"skerry_tls_certificate_end_seconds", GAUGE("When the first of a listener's certificates ends, in seconds since 1970."),
     .labels = "listener", .source = METRIC_CERTIFICATES},
    {"skerry_tls_crl_end_seconds",
     GAUGE("When the first of a listener's CRLs ends (nextUpdate), in seconds since 1970; then clients with certificates of "
           "that authority are refused."),
     .labels = "listener", .source = METRIC_CRLS},
    {"skerry_connects_accepted_total", COUNTER("CONNECT packets answered with success."), TOTAL(connects_accepted)},
    {"skerry_connects_refused_total", COUNTER("CONNECT packets refused."), TOTAL(connects_refused)},
    {"skerry_limit_reached_total",
     COUNTER("Times that a client, or somebody who wants to be one, ran into a limit of its name: refused, closed, or not "
             "read from for a while. What queues and the retained store have no room for is counted by the ledger."),
     .labels = "limit", .series = "limit=\"connections\"", NET(refused_limit)},
    LIMIT_REACHED("connections_per_address", NET(refused_address)),
    LIMIT_REACHED("connection_rate", NET(rate_pauses)),
    LIMIT_REACHED("connect_timeout", TOTAL(connect_timeouts)),
    LIMIT_REACHED("message_rate", TOTAL(limits_reached[LIMIT_MESSAGE_RATE])),
    LIMIT_REACHED("byte_rate", TOTAL(limits_reached[LIMIT_BYTE_RATE])),
    LIMIT_REACHED("packet_size", TOTAL(limits_reached[LIMIT_PACKET_SIZE])),
    LIMIT_REACHED("in_flight", TOTAL(limits_reached[LIMIT_IN_FLIGHT])),
    LIMIT_REACHED("topic_levels", TOTAL(limits_reached[LIMIT_TOPIC_LEVELS])),
    LIMIT_REACHED("subscriptions", TOTAL(limits_reached[LIMIT_SUBSCRIPTIONS])),
    LIMIT_REACHED("session_expiry_max", TOTAL(limits_reached[LIMIT_SESSION_EXPIRY])),
    {"skerry_keep_alive_timeouts_total", COUNTER("Clients not heard of for one and a half times their keep alive."),
     TOTAL(keep_alive_timeouts)},
    {"skerry_subscribe_refused_total", COUNTER("Topic filters of SUBSCRIBE packets that were refused."),
     TOTAL(subscribes_refused)},
    {"skerry_authentications_total",
     COUNTER("Clients that were let in, by how they have shown who they are; re-authentications too."), .labels = "method",
     .series = "method=\"anonymous\"", .source = METRIC_U64, AUTH(accepted_anonymous)},
    {"skerry_authentications_total", .labels = "method", .series = "method=\"cert\"", .source = METRIC_U64,
     AUTH(accepted[AUTH_CERT])},
    {"skerry_authentications_total", .labels = "method", .series = "method=\"password\"", .source = METRIC_U64,
     AUTH(accepted[AUTH_PASSWORD])},
    {"skerry_authentications_total", .labels = "method", .series = "method=\"jwt\"", .source = METRIC_U64,
     AUTH(accepted[AUTH_JWT])},
    {"skerry_authentications_total", .labels = "method", .series = "method=\"scram\"", .source = METRIC_U64,
     AUTH(accepted[AUTH_SCRAM])},
    {"skerry_authentications_total", .labels = "method", .series = "method=\"psk\"", .source = METRIC_U64,
     AUTH(accepted[AUTH_PSK])},
    {"skerry_authentications_refused_total",
     COUNTER("Clients that were not: wrong credentials; nothing that the listener can check (not_authorized); a method that "
             "it does not "
             "have; too many at once (busy); too many wrong ones from there before (backoff); a broken exchange (other)."),
     .labels = "reason", .series = "reason=\"credentials\"", .source = METRIC_U64, AUTH(refused[AUTH_REFUSED_CREDENTIALS])},
    {"skerry_authentications_refused_total", .labels = "reason", .series = "reason=\"not_authorized\"", .source = METRIC_U64,
     AUTH(refused[AUTH_REFUSED_NOT_AUTHORIZED])},
    {"skerry_authentications_refused_total", .labels = "reason", .series = "reason=\"method\"", .source = METRIC_U64,
     AUTH(refused[AUTH_REFUSED_METHOD])},
    {"skerry_authentications_refused_total", .labels = "reason", .series = "reason=\"busy\"", .source = METRIC_U64,
     AUTH(refused[AUTH_REFUSED_BUSY])},
    {"skerry_authentications_refused_total", .labels = "reason", .series = "reason=\"backoff\"", .source = METRIC_U64,
     AUTH(refused[AUTH_REFUSED_BACKOFF])},
    {"skerry_authentications_refused_total", .labels = "reason", .series = "reason=\"other\"", .source = METRIC_U64,
     AUTH(refused[AUTH_REFUSED_OTHER])},
    {"skerry_authentications_waiting", GAUGE("Questions about clients that wait for their answer."), .source = METRIC_U32,
     AUTH(waiting)},
    {"skerry_authentication_backoff_entries",
     GAUGE("Addresses, and users at addresses, that are remembered for wrong credentials."), .source = METRIC_U32,
     AUTH(backoff_entries)},
    {"skerry_password_hashes_total", COUNTER("Passwords that were hashed, to be compared."), .source = METRIC_U64,
     AUTH(hash_count)},
    {"skerry_password_hash_seconds_total", COUNTER("Time that this took."), .decimals = 6, .source = METRIC_U64,
     AUTH(hash_us_sum)},
    {"skerry_access_denied_total",
     COUNTER("PUBLISH packets and wills, topic filters, and deliveries that access control denied."), .labels = "verb",
     .series = "verb=\"publish\"", TOTAL(access_denied[0])},
    {"skerry_access_denied_total", .labels = "verb", .series = "verb=\"subscribe\"", TOTAL(access_denied[1])},
    {"skerry_access_denied_total", .labels = "verb", .series = "verb=\"receive\"", TOTAL(access_denied[2])},
    {"skerry_access_trial_denied_total", COUNTER("The same that a list on trial (acl_shadow) would have denied."),
     .labels = "verb", .series = "verb=\"publish\"", TOTAL(trial_denied[0])},
    {"skerry_access_trial_denied_total", .labels = "verb", .series = "verb=\"subscribe\"", TOTAL(trial_denied[1])},
    {"skerry_access_trial_denied_total", .labels = "verb", .series = "verb=\"receive\"", TOTAL(trial_denied[2])},
    {"skerry_takeovers_total", COUNTER("Connections closed because another one came with the same client identifier."),
     TOTAL(takeovers)},
    {"skerry_disconnects_total",
     COUNTER("Connections that ended: with the client's DISCONNECT, without one, or closed for an error of the client."),
     .labels = "reason", .series = "reason=\"clean\"", TOTAL(disconnects_clean)},
    {"skerry_disconnects_total", .labels = "reason", .series = "reason=\"lost\"", TOTAL(disconnects_lost)},
    {"skerry_disconnects_total", .labels = "reason", .series = "reason=\"protocol\"", TOTAL(disconnects_protocol)},
    {"skerry_faults_total",
     COUNTER("Connections closed by the broker and requests answered with a failure, by MQTT reason code; codes that "
             "have occurred."),
     .labels = "reason, name", .source = METRIC_FAULTS},
    {"skerry_pauses_total", COUNTER("Times that reading from a connection was paused, to bound memory or a rate."),
     TOTAL(pauses)},

    // State
    {"skerry_sessions", GAUGE("Sessions, connected or not."), TOTAL(sessions)},
    {"skerry_sessions_expired_total", COUNTER("Sessions that ended because their expiry interval passed."),
     TOTAL(sessions_expired)},
    {"skerry_subscriptions", GAUGE("Subscriptions that are not shared."), TOTAL(subscriptions)},
    {"skerry_shared_subscriptions", GAUGE("Memberships in shared subscriptions."), TOTAL(shared_subscriptions)},
    {"skerry_retained_messages", GAUGE("Retained messages."), TOTAL(retained_messages)},
    {"skerry_retained_bytes", GAUGE("Bytes of the retained messages."), TOTAL(retained_bytes)},
    {"skerry_not_retained_total",
     COUNTER("Messages to retain that were passed on and not retained, for want of room: of QoS 0, of clients before 5.0, "
             "and wills. Other clients are refused (retained_limit)."),
     TOTAL(not_retained)},
    {"skerry_wills_sent_total", COUNTER("Will messages published."), TOTAL(wills_sent)},

    // The journal
    {"skerry_journal_state",
     GAUGE("1 for the state that holds: ok; full, for want of space what needs room is refused; failing, the disk reports "
           "errors."),
     .labels = "state", .source = METRIC_JOURNAL_STATE},
    {"skerry_journal_commit_seconds", .type = METRIC_HISTOGRAM,
     .help = "From handing changes to the store until they are safe on disk; of those that become so "
             "together the one that waited longest.",
     .labels = "le", .source = METRIC_JOURNAL_COMMITS},
    {"skerry_journal_written_bytes_total", COUNTER("Bytes written to the journal's files."), JOURNAL(bytes_written)},
    {"skerry_journal_syncs_total", COUNTER("Times that the disk was told to make what was written safe."), JOURNAL(syncs)},
    {"skerry_journal_records_total", COUNTER("Records written: one per durable change."), JOURNAL(records)},
    {"skerry_journal_messages_total", COUNTER("Messages written, once each however many sessions they are for."),
     JOURNAL(messages)},
    {"skerry_journal_message_bytes_total", COUNTER("Bytes of these messages, as queue_bytes counts them."),
     JOURNAL(message_bytes)},
    {"skerry_journal_bytes_per_message",
     GAUGE("skerry_journal_written_bytes_total / skerry_journal_messages_total: the cost of a message on flash, with its "
           "bookkeeping, checkpoints and copies."),
     .decimals = 1, .source = METRIC_JOURNAL_BYTES_PER_MESSAGE},
    {"skerry_journal_segments", GAUGE("Files of the journal that hold records."), JOURNAL(segments)},
    {"skerry_journal_bytes", GAUGE("Bytes of all files of the journal, the reserve included."), JOURNAL(bytes)},
    {"skerry_journal_live_bytes", GAUGE("Bytes of the messages in them that are still needed."), JOURNAL(live_bytes)},
    {"skerry_journal_limit_bytes", GAUGE("journal.limit."), JOURNAL(limit_bytes)},
    {"skerry_journal_segments_removed_total", COUNTER("Files removed because nothing in them was needed any more."),
     JOURNAL(segments_removed)},
    {"skerry_journal_segments_copied_total", COUNTER("Files whose last needed messages were copied to make room."),
     JOURNAL(segments_copied)},
    {"skerry_journal_checkpoints_total", COUNTER("Checkpoints completed."), JOURNAL(checkpoints)},
    {"skerry_journal_failures_total",
     COUNTER("Writes and syncs that failed and were repeated: by an error of the disk, or for want of space."),
     .labels = "reason", .series = "reason=\"error\"", JOURNAL(errors)},
    {"skerry_journal_failures_total", .labels = "reason", .series = "reason=\"full\"", JOURNAL(full)},
    {"skerry_journal_loads_total", COUNTER("Times that a part of a queue was read back."), JOURNAL(loads)},
    {"skerry_journal_loaded_messages_total", COUNTER("Messages read back."), JOURNAL(loaded_messages)},
    {"skerry_journal_sessions", GAUGE("Sessions in the journal, connected or not."), JOURNAL(queues)},
    {"skerry_journal_queued_messages", GAUGE("Messages in their queues, those in flight included."), JOURNAL(queued)},
    {"skerry_journal_queued_bytes", GAUGE("Bytes of these messages, as queue_bytes counts them."), JOURNAL(queued_bytes)},
    {"skerry_journal_oldest_seconds", GAUGE("How long the oldest of these messages has waited."), JOURNAL(oldest_s)},
    {"skerry_journal_retained_messages", GAUGE("Retained messages in the journal."), JOURNAL(retained)},
    {"skerry_journal_retained_bytes", GAUGE("Bytes of these messages, as retained_bytes counts them."),
     JOURNAL(retained_bytes)},
    {"skerry_journal_torn_bytes",
     GAUGE("Bytes at the end of the journal that a crash had left unfinished, cut off at the start. They were never "
           "acknowledged."),
     JOURNAL(torn_bytes)},
    {"skerry_journal_damaged_records_total", COUNTER("Records that could not be read: the disk has lost what it had kept."),
     JOURNAL(damaged_records)},
    {"skerry_journal_damaged_messages_total", COUNTER("Messages lost with them."), JOURNAL(damaged_messages)},
    {"skerry_journal_replayed_bytes", GAUGE("Bytes read at the start."), JOURNAL(replayed_bytes)},
    {"skerry_journal_open_seconds", GAUGE("How long the start took to open the journal."), .decimals = 3, JOURNAL(open_ms)},

    // Traffic
    {"skerry_packets_received_total", COUNTER("MQTT packets received, by type."), .labels = "type",
     .source = METRIC_PACKETS_RECEIVED},
    {"skerry_packets_sent_total", COUNTER("MQTT packets sent, by type."), .labels = "type", .source = METRIC_PACKETS_SENT},
    {"skerry_received_bytes_total", COUNTER("Bytes of MQTT received, without WebSocket and PROXY framing."),
     TOTAL(bytes_received)},
    {"skerry_sent_bytes_total", COUNTER("Bytes of MQTT sent, without WebSocket framing."), TOTAL(bytes_sent)},
    {"skerry_match_cache_hits_total", COUNTER("Topics whose subscribers were remembered from an earlier message."),
     TOTAL(match_hits)},
    {"skerry_match_cache_misses_total", COUNTER("Topics whose subscribers had to be looked up."), TOTAL(match_misses)},

    // Shards
    {"skerry_mails_sent_total", COUNTER("Messages from one shard to another."), TOTAL(mails_sent)},
    {"skerry_mails_received_total", COUNTER("Messages that a shard took from another."), TOTAL(mails_received)},
    {"skerry_shards", GAUGE("Threads that serve clients."), .source = METRIC_SHARDS_COUNT},
    {"skerry_shard_connections", GAUGE("Open connections of each shard."), SHARD(connections)},
    {"skerry_shard_sessions", GAUGE("Sessions of each shard."), SHARD(sessions)},
    {"skerry_shard_publish_received_total", COUNTER("PUBLISH packets taken from the clients of each shard."),
     SHARD(publish_received)},
    {"skerry_shard_copies_total", COUNTER("Copies made for the sessions of each shard."), SHARD(copies)},

    // The process
    {"skerry_memory_used_bytes", GAUGE("Bytes of messages, buffers and sessions, as broker.memory_limit counts them."),
     .source = METRIC_I64, VIEW(memory_used_bytes)},
    {"skerry_memory_limit_bytes", GAUGE("broker.memory_limit."), .source = METRIC_I64, VIEW(memory_limit_bytes)},
    {"skerry_ready", GAUGE("1 when every listener accepts connections."), .source = METRIC_BOOL, VIEW(ready)},
    {"skerry_uptime_seconds", GAUGE("Time since the start."), .source = METRIC_U64, VIEW(uptime_s)},
    {"skerry_config_reloads_total", COUNTER("Reloads of the configuration that were applied, and that were refused whole."),
     .labels = "result", .series = "result=\"applied\"", .source = METRIC_U64, VIEW(reloads)},
    {"skerry_config_reloads_total", .labels = "result", .series = "result=\"refused\"", .source = METRIC_U64,
     VIEW(reloads_refused)},
    {"skerry_build_info", GAUGE("Always 1; the labels tell which program this is."), .labels = "version, broker_id",
     .source = METRIC_BUILD_INFO},
    {"process_cpu_seconds_total", COUNTER("User and system CPU time of the process."), .decimals = 6, PROCESS(cpu_us)},
    {"process_resident_memory_bytes", GAUGE("Resident memory of the process."), PROCESS(resident_bytes)},
    {"process_virtual_memory_bytes", GAUGE("Virtual memory of the process."), PROCESS(virtual_bytes)},
    {"process_open_fds", GAUGE("File descriptors that are open."), PROCESS(open_fds)},
    {"process_max_fds", GAUGE("Most file descriptors that the process may open; 0: unlimited."), PROCESS(max_fds)},
    {"process_start_time_seconds", GAUGE("When the process started, in seconds since 1970."), .decimals = 3,
     PROCESS(start_time_ms)},
};

const struct metric *metrics_table(size_t *out_count)
{
  *out_count = sizeof table / sizeof table[0];
  return table;
}

const char *metric_type_name(enum metric_type type)
{
  static const char *const names[] = {
      [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
  return names[type];
}

// ---- Text

struct page {
  struct buffer *out;
  enum status status;  // the first failure
};

static void emit_bytes(struct page *page, const void *bytes, size_t size)
{
  if (page->status == OK) page->status = buffer_append(page->out, bytes, size);
}

static void emit(struct page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void emit(struct page *page, const char *format, ...)
{
  char line[LINE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  assert(size >= 0);
  assert((size_t)size < sizeof line);
  emit_bytes(page, line, (size_t)size);
}

// Prometheus wants UTF-8 and escapes for \, " and the end of the line.
static void emit_label_value(struct page *page, const char *value)
{
  struct span rest = span_text(value);
  while (rest.size > 0) {
    size_t size = utf8_next(rest).size;
    uint8_t first = rest.at[0];
    if (size == 0) {
      emit_bytes(page, "\xef\xbf\xbd", 3);  // U+FFFD
      size = 1;
    } else if (first == '\n') {
      emit_bytes(page, "\\n", 2);
    } else {
      if (first == '\\' || first == '"') emit_bytes(page, "\\", 1);
      emit_bytes(page, rest.at, size);
    }
    rest = span_from(rest, size);
  }
}

static const void *at(const void *base, size_t offset)
{
  return (const uint8_t *)base + offset;
}

static uint64_t u64_at(const void *base, size_t offset)
{
  return *(const uint64_t *)at(base, offset);
}

static void emit_value(struct page *page, const struct metric *metric, uint64_t value)
{
  uint64_t unit = 1;
  for (uint8_t i = 0; i < metric->decimals; i++) unit *= 10;
  const char *open = metric->series ? "{" : "", *close = metric->series ? "}" : "";
  emit(page, "%s%s%s%s %" PRIu64, metric->name, open, metric->series ? metric->series : "", close, value / unit);
  if (metric->decimals) emit(page, ".%0*" PRIu64, metric->decimals, value % unit);
  emit(page, "\n");
}

// Types that never pass in this direction are left out unless one was counted all the same.
static void emit_packets(struct page *page, const struct metric *metric, const uint64_t counts[16], uint16_t usual)
{
  for (unsigned type = 0; type < 16; type++)
    if (counts[type] || usual >> type & 1)
      emit(page, "%s{type=\"%s\"} %" PRIu64 "\n", metric->name, mqtt_packet_name(type), counts[type]);
}

#define BIT(type) (1u << MQTT_##type)
enum {
  BOTH_WAYS = BIT(PUBLISH) | BIT(PUBACK) | BIT(PUBREC) | BIT(PUBREL) | BIT(PUBCOMP) | BIT(DISCONNECT) | BIT(AUTH),
  RECEIVED = BOTH_WAYS | BIT(CONNECT) | BIT(SUBSCRIBE) | BIT(UNSUBSCRIBE) | BIT(PINGREQ),
  SENT = BOTH_WAYS | BIT(CONNACK) | BIT(SUBACK) | BIT(UNSUBACK) | BIT(PINGRESP),
};

static void emit_faults(struct page *page, const struct metric *metric, const uint64_t faults[256])
{
  for (unsigned reason = 0; reason < 256; reason++)
    if (faults[reason])
      emit(page, "%s{reason=\"0x%02X\",name=\"%s\"} %" PRIu64 "\n", metric->name, reason,
           mqtt_reason_name((enum mqtt_reason)reason), faults[reason]);
}

static void emit_build_info(struct page *page, const struct metric *metric, const struct status_view *view)
{
  emit(page, "%s{version=\"", metric->name);
  emit_label_value(page, view->version);
  emit(page, "\",broker_id=\"");
  emit_label_value(page, view->broker_id);
  emit(page, "\"} 1\n");
}

static void emit_ends(struct page *page, const struct metric *metric, const struct status_view *view)
{
  for (size_t i = 0; i < view->certificate_count; i++) {
    const struct certificate_view *certificate = &view->certificates[i];
    int64_t end_s = metric->source == METRIC_CRLS ? certificate->crl_end_s : certificate->end_s;
    if (!end_s) continue;
    emit(page, "%s{listener=\"", metric->name);
    emit_label_value(page, certificate->listener);
    emit(page, "\"} %" PRId64 "\n", end_s);
  }
}

static void emit_journal_state(struct page *page, const struct metric *metric, enum journal_state holds)
{
  static const enum journal_state states[] = {JOURNAL_OK, JOURNAL_FULL, JOURNAL_FAILING};
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
    emit(page, "%s{state=\"%s\"} %d\n", metric->name, journal_state_name(states[i]), states[i] == holds);
}

static void emit_commits(struct page *page, const struct metric *metric, const struct store_counters *journal)
{
  uint64_t below = 0;
  for (unsigned i = 0; i < COMMIT_BUCKETS; i++) {
    uint64_t bound_us = UINT64_C(50) << i;
    below += journal->commit_us[i];
    emit(page, "%s_bucket{le=\"%" PRIu64 ".%06" PRIu64 "\"} %" PRIu64 "\n", metric->name, bound_us / 1000000,
         bound_us % 1000000, below);
  }
  emit(page, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", metric->name, journal->commit_count);
  emit(page, "%s_sum %" PRIu64 ".%06" PRIu64 "\n", metric->name, journal->commit_us_sum / 1000000,
       journal->commit_us_sum % 1000000);
  emit(page, "%s_count %" PRIu64 "\n", metric->name, journal->commit_count);
}

static bool is_of_journal(const struct metric *metric)
{
  return metric->source >= METRIC_JOURNAL && metric->source <= METRIC_JOURNAL_COMMITS;
}

static void emit_series(struct page *page, const struct metric *metric, const struct status_view *view,
                        const struct process_stats *process)
{
  const struct counters *total = &view->total;
  switch (metric->source) {
    case METRIC_U64: emit_value(page, metric, u64_at(view, metric->offset)); break;
    case METRIC_U32: emit_value(page, metric, *(const uint32_t *)at(view, metric->offset)); break;
    case METRIC_I64: {
      int64_t value = *(const int64_t *)at(view, metric->offset);
      emit_value(page, metric, value > 0 ? (uint64_t)value : 0);
      break;
    }
    case METRIC_BOOL: emit_value(page, metric, *(const bool *)at(view, metric->offset)); break;
    case METRIC_PROCESS: emit_value(page, metric, u64_at(process, metric->offset)); break;
    case METRIC_SHARDS_COUNT: emit_value(page, metric, view->shard_count); break;
    case METRIC_SHARDS:
      for (unsigned i = 0; i < view->shard_count; i++)
        emit(page, "%s{shard=\"%u\"} %" PRIu64 "\n", metric->name, i, u64_at(&view->shards[i], metric->offset));
      break;
    case METRIC_PACKETS_RECEIVED: emit_packets(page, metric, total->packets_received, RECEIVED); break;
    case METRIC_PACKETS_SENT: emit_packets(page, metric, total->packets_sent, SENT); break;
    case METRIC_REFUSED:
      for (unsigned i = 0; i < REFUSE_REASONS; i++)
        emit(page, "%s{reason=\"%s\"} %" PRIu64 "\n", metric->name, refuse_reason_name((enum refuse_reason)i),
             total->publish_refused[i]);
      break;
    case METRIC_DROPPED:
      for (unsigned i = 0; i < DROP_REASONS; i++)
        emit(page, "%s{reason=\"%s\"} %" PRIu64 "\n", metric->name, drop_reason_name((enum drop_reason)i),
             total->dropped[i]);
      break;
    case METRIC_FAULTS: emit_faults(page, metric, total->faults); break;
    case METRIC_CERTIFICATES:
    case METRIC_CRLS: emit_ends(page, metric, view); break;
    case METRIC_BUILD_INFO: emit_build_info(page, metric, view); break;
    case METRIC_JOURNAL: emit_value(page, metric, u64_at(&view->journal, metric->offset)); break;
    case METRIC_JOURNAL_STATE: emit_journal_state(page, metric, view->journal_state); break;
    case METRIC_JOURNAL_BYTES_PER_MESSAGE:
      emit_value(page, metric, view->journal.messages ? view->journal.bytes_written * 10 / view->journal.messages : 0);
      break;
    case METRIC_JOURNAL_COMMITS: emit_commits(page, metric, &view->journal); break;
  }
}

enum status metrics_format(const struct status_view *view, struct buffer *out)
{
  assert(view->shard_count <= SHARDS_MAX);
  struct page page = {.out = out};
  struct process_stats process = {0};
  bool process_known = process_stats_read(&process) == OK;
  size_t before = buffer_size(out);
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    const struct metric *metric = &table[i];
    if (metric->source == METRIC_PROCESS && !process_known) continue;
    if (is_of_journal(metric) && !view->has_journal) continue;
    if (metric->help)
      emit(&page, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name, metric_type_name(metric->type));
    emit_series(&page, metric, view, &process);
  }
  if (page.status != OK) out->end = out->start + before;  // all or nothing
  return page.status;
}
