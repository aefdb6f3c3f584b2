// Fetching the metrics. See top_fetch.h.
#include "cli/top_fetch.h"

#include <stdio.h>
#include <string.h>

#include "cli/top_answer.h"

enum { REQUEST_SIZE = 2048 };

// ---- The address

static enum status check_url(const struct url *url, struct error *error)
{
  if (url->user_name) return error_set(error, ERR_INVALID, "a user name has no use there");
  const char *path = url->path ? url->path : "";
  if (strlen(url->host) + strlen(path) > REQUEST_SIZE / 2) return error_set(error, ERR_INVALID, "it is too long");
  for (const char *at = path; *at; at++)
    if (*at <= ' ' || *at > '~') return error_set(error, ERR_INVALID, "the path has a byte that URLs write as %%XX");
  return OK;
}

enum status top_fetch_parse(const char *text, struct url *out, struct error *error)
{
  char with_scheme[REQUEST_SIZE];
  bool bare = !strstr(text, "://");
  if (bare && snprintf(with_scheme, sizeof with_scheme, "http://%s", text) >= (int)sizeof with_scheme)
    return error_set(error, ERR_INVALID, "it is too long");
  if (!bare && strncmp(text, "http://", 7) != 0)
    return error_set(error, ERR_INVALID, "\"%s\" is neither HOST:PORT nor an http:// URL", text);
  enum status status = url_parse(bare ? with_scheme : text, out, error);
  if (status != OK) return status;
  status = check_url(out, error);
  if (status == OK) return OK;
  url_deinit(out);
  return error_prefix(error, "\"%s\"", text);
}

// ---- The run

void top_fetch_init(struct top_fetch *fetch, struct url *url)
{
  *fetch = (struct top_fetch){.url = *url, .address = {.host = url->host, .port = url->port}};
  *url = (struct url){0};
  transport_init(&fetch->transport);
}

void top_fetch_deinit(struct top_fetch *fetch)
{
  transport_close(&fetch->transport);
  buffer_deinit(&fetch->in);
  url_deinit(&fetch->url);
}

struct pollfd top_fetch_pollfd(const struct top_fetch *fetch)
{
  return (struct pollfd){.fd = fetch->transport.fd, .events = transport_poll_events(&fetch->transport)};
}

uint64_t top_fetch_due_ms(const struct top_fetch *fetch)
{
  if (!fetch->url.memory) return UINT64_MAX;
  return fetch->waiting ? fetch->deadline_ms : fetch->next_ms;
}

static void drop(struct top_fetch *fetch)
{
  transport_close(&fetch->transport);
  buffer_consume(&fetch->in, buffer_size(&fetch->in));
  fetch->waiting = false;
}

static enum status begin(struct top_fetch *fetch, uint64_t now_ms, struct error *error)
{
  fetch->waiting = true;
  fetch->sent = false;
  fetch->next_ms = now_ms + TOP_FETCH_PERIOD_MS;
  fetch->deadline_ms = now_ms + TOP_FETCH_TIMEOUT_MS;
  if (fetch->transport.state != TRANSPORT_CLOSED) return OK;
  enum status status = transport_connect(&fetch->transport, &fetch->address, error);
  if (status == ERR_NOT_FOUND) fetch->next_ms = now_ms + TOP_FETCH_NO_HOST_MS;
  return status;
}

static enum status send_request(struct top_fetch *fetch, struct error *error)
{
  char request[REQUEST_SIZE];
  const struct url *url = &fetch->url;
  bool v6 = strchr(url->host, ':') != NULL;
  int size = snprintf(request, sizeof request,
                      "GET %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nUser-Agent: skerry-top\r\nAccept: text/plain\r\n\r\n",
                      url->path ? url->path : "/metrics", v6 ? "[" : "", url->host, v6 ? "]" : "", url->port);
  uint8_t *bytes = transport_reserve(&fetch->transport, (size_t)size);
  if (!bytes) return error_set(error, ERR_NO_MEMORY, "out of memory");
  memcpy(bytes, request, (size_t)size);
  transport_commit(&fetch->transport, bytes, (size_t)size);
  fetch->sent = true;
  return transport_flush(&fetch->transport, error);
}

static enum top_fetched fail(struct top_fetch *fetch)
{
  drop(fetch);
  return TOP_FETCHED_FAILED;
}

static enum top_fetched take_answer(struct top_fetch *fetch, bool closed, struct span *out_page, struct error *error)
{
  struct top_answer answer;
  struct span all = buffer_peek(&fetch->in);
  if (all.size == 0 && !closed) return TOP_FETCHED_NOTHING;
  switch (top_answer_read(fetch->in.data + fetch->in.start, all.size, closed, &answer)) {
    case TOP_ANSWER_INCOMPLETE: return TOP_FETCHED_NOTHING;
    case TOP_ANSWER_BROKEN: (void)error_set(error, ERR_INVALID, "%s", answer.why); return fail(fetch);
    case TOP_ANSWER_WHOLE:
    default: break;
  }
  if (answer.http_status != 200) {
    (void)error_set(error, ERR_NOT_FOUND, "HTTP status %u", answer.http_status);
    return fail(fetch);
  }
  if (closed || !answer.keep) transport_close(&fetch->transport);
  fetch->answered = all.size;
  fetch->waiting = false;
  *out_page = answer.body;
  return TOP_FETCHED_PAGE;
}

enum top_fetched top_fetch_turn(struct top_fetch *fetch, short events, uint64_t now_ms, struct span *out_page,
                                struct error *error)
{
  if (!fetch->url.memory) return TOP_FETCHED_NOTHING;
  buffer_consume(&fetch->in, fetch->answered);
  fetch->answered = 0;
  enum status status = transport_handle(&fetch->transport, events, &fetch->in, error);
  if (!fetch->waiting) {
    // Between two requests there is nothing to say: the other side has closed, or must be.
    if (status != OK || buffer_size(&fetch->in) > 0) drop(fetch);
    if (now_ms < fetch->next_ms) return TOP_FETCHED_NOTHING;
    status = begin(fetch, now_ms, error);
  }
  if (status == OK && fetch->transport.state == TRANSPORT_OPEN)
    status = fetch->sent ? transport_flush(&fetch->transport, error) : send_request(fetch, error);
  bool closed = status == ERR_CLOSED && fetch->sent;
  if (status != OK && !closed) return fail(fetch);
  enum top_fetched fetched = take_answer(fetch, closed, out_page, error);
  if (fetched != TOP_FETCHED_NOTHING || now_ms < fetch->deadline_ms) return fetched;
  (void)error_set(error, ERR_TIMEOUT, "no answer within %d s", TOP_FETCH_TIMEOUT_MS / 1000);
  return fail(fetch);
}
