#include "broker/metrics_help.h"

#include <stdbool.h>
#include <string.h>

#include "broker/watch_tables.h"
#include "core/counters.h"

static const char introduction[] =
    "# Watching a broker\n\n"
    "This page is made from the program's own tables; a test says when it is out of date.\n\n"
    "`metrics.listen` in the configuration opens a small HTTP server:\n\n"
    "| Path | Answer |\n"
    "|---|---|\n"
    "| `/metrics` | the metrics below in the Prometheus text format |\n"
    "| `/healthz` | 200 and `ok` when every listener accepts connections, 503 and `starting` before; 200 and `degraded: "
    "journal "
    "full` or `degraded: journal failing` while the journal does not take what needs room |\n\n"
    "A degraded broker stays in service: it delivers what it has, takes what needs no disk, and recovers by itself. So the "
    "status is\n200, which keeps a supervisor from restarting it; alert on `skerry_journal_state{state!=\"ok\"} == 1`.\n\n"
    "It answers GET and HEAD. It neither encrypts nor asks who is there: keep it on a loopback or management address.\n\n"
    "## The ledger\n\n"
    "Every message is accounted for. At every scrape, under any load,\n\n"
    "    skerry_publish_received_total = skerry_publish_routed_total\n"
    "                                  + skerry_publish_unrouted_total\n"
    "                                  + sum(skerry_publish_refused_total)\n\n"
    "    skerry_copies_total           = skerry_copies_delivered_total\n"
    "                                  + skerry_copies_queued\n"
    "                                  + skerry_copies_in_flight\n"
    "                                  + skerry_copies_expired_total\n"
    "                                  + sum(skerry_copies_dropped_total)\n\n"
    "The first line counts what clients publish, the second what sessions are to get: one copy per session and message.\n"
    "Wills, retained messages sent at SUBSCRIBE and $SYS make copies without having been received from a client.\n\n"
    "With a journal, copies for sessions that outlive their connection stand in the same ledger, and it goes on over "
    "restarts: what is\n"
    "restored counts as a copy and as queued. `skerry_journal_*` describes the files themselves; these metrics are there "
    "only when the\n"
    "broker has a journal. A store that waits for its disk is not waited for: its metrics are then those of a moment "
    "before.\n\n"
    "All metrics are sums over the shards, except those whose name begins with `skerry_shard_`.\n\n";

static const char sys_introduction[] =
    "## $SYS\n\n"
    "The same state as retained messages, every `sys.interval`, with the names and formats that Mosquitto made customary.\n"
    "Only values that have changed are published. Wildcards at the front of a filter do not match them: subscribe to "
    "`$SYS/#`.\n\n"
    "| Topic | Meaning |\n"
    "|---|---|\n";

static void print_reasons(FILE *out)
{
  fprintf(out, "Reasons of `skerry_publish_refused_total`:");
  for (unsigned i = 0; i < REFUSE_REASONS; i++)
    fprintf(out, "%s `%s`", i ? "," : "", refuse_reason_name((enum refuse_reason)i));
  fprintf(out, ". `duplicate` is a repeated QoS 2 packet, answered but not delivered again.\n\n"
               "Reasons of `skerry_copies_dropped_total`:");
  for (unsigned i = 0; i < DROP_REASONS; i++) fprintf(out, "%s `%s`", i ? "," : "", drop_reason_name((enum drop_reason)i));
  fprintf(out, ".\n\n");
}

static void print_metric(FILE *out, const struct metric *metric)
{
  fprintf(out, "| `%s` | %s | %s%s%s | %s |\n", metric->name, metric_type_name(metric->type), metric->labels ? "`" : "",
          metric->labels ? metric->labels : "", metric->labels ? "`" : "", metric->help);
}

void metrics_help_markdown(FILE *out)
{
  fputs(introduction, out);
  print_reasons(out);
  fputs("## Metrics\n\n| Name | Type | Labels | Meaning |\n|---|---|---|---|\n", out);
  size_t count;
  const struct metric *metrics = metrics_table(&count);
  for (size_t i = 0; i < count; i++)
    if (metrics[i].help) print_metric(out, &metrics[i]);
  fputc('\n', out);
  fputs(sys_introduction, out);
  const struct sys_topic_row *row;
  for (size_t i = 0; (row = sys_topics_row(i)); i++) fprintf(out, "| `%s` | %s |\n", row->topic, row->help);
}
