#include "core/ticket.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/shard_internal.h"

struct ticket {
  struct link link;
  uint64_t number;
  uint32_t waiting;               // answers that are out
  uint8_t target;                 // without a connection: the shard to tell
  struct connection *connection;  // NULL: a shard's, or the connection is gone
  uint64_t target_ticket;         // 0: a connection's
  uint64_t need;                  // of the journal
  uint64_t client;                // hash of the client identifier that a CONNECT waits for; 0: it is for an answer
  struct buffer bytes;
};

static struct ticket *create(struct shard *shard)
{
  struct ticket *ticket = calloc(1, sizeof *ticket);
  if (!ticket) abort();  // a SUBACK that never comes would hang its client
  ticket->number = shard_number(shard);
  ticket->waiting = 1;
  list_append(&shard->tickets, &ticket->link);
  return ticket;
}

uint64_t ticket_for_connection(struct shard *shard, struct connection *connection)
{
  struct ticket *ticket = create(shard);
  ticket->connection = connection;
  return ticket->number;
}

uint64_t ticket_for_connect(struct shard *shard, struct connection *connection, uint64_t client)
{
  struct ticket *ticket = create(shard);
  ticket->connection = connection;
  ticket->client = client;
  return ticket->number;
}

bool ticket_has_connect(const struct shard *shard, uint64_t client)
{
  LIST_EACH (link, &shard->tickets) {
    if (CONTAINER_OF(link, struct ticket, link)->client == client) return true;
  }
  return false;
}

static struct ticket *find(struct shard *shard, uint64_t number);

void ticket_refuse(struct shard *shard, uint64_t number)
{
  const struct ticket *ticket = find(shard, number);
  if (ticket && ticket->connection) ticket->connection->foreign = true;
}

uint64_t ticket_for_shard(struct shard *shard, uint8_t target, uint64_t number)
{
  struct ticket *ticket = create(shard);
  ticket->target = target;
  ticket->target_ticket = number;
  return ticket->number;
}

// Answers come in the order of the questions, so the one looked for is near the front.
static struct ticket *find(struct shard *shard, uint64_t number)
{
  if (!number) return NULL;
  LIST_EACH (link, &shard->tickets) {
    struct ticket *ticket = CONTAINER_OF(link, struct ticket, link);
    if (ticket->number == number) return ticket;
  }
  return NULL;
}

void ticket_expect(struct shard *shard, uint64_t number)
{
  struct ticket *ticket = find(shard, number);
  if (ticket) ticket->waiting++;
}

void ticket_set_bytes(struct shard *shard, uint64_t number, struct span bytes, uint64_t need)
{
  struct ticket *ticket = find(shard, number);
  assert(ticket);
  ticket->need = need;
  if (buffer_append(&ticket->bytes, bytes.at, bytes.size) != OK) abort();
}

static void ticket_free(struct ticket *ticket)
{
  list_remove(&ticket->link);
  buffer_deinit(&ticket->bytes);
  free(ticket);
}

void ticket_done(struct shard *shard, uint64_t number)
{
  struct ticket *ticket = find(shard, number);
  if (!ticket) return;
  assert(ticket->waiting > 0);
  if (--ticket->waiting > 0) return;
  if (ticket->target_ticket) {
    shard_send_mail(shard, ticket->target, (struct mail){.kind = MAIL_DONE, .ticket = ticket->target_ticket});
  } else if (ticket->connection && ticket->connection->state == CONNECTED) {  // nothing goes behind a DISCONNECT
    connection_unpause(ticket->connection, PAUSED_ANSWER);
    connection_answer(ticket->connection, buffer_peek(&ticket->bytes), ticket->need);
  } else if (ticket->connection && ticket->client) {
    ticket->connection->alone = true;
    connection_unpause(ticket->connection, PAUSED_TAKE_OVER);
    return;  // until its CONNECT has been handled, others of the client must stay here
  }
  ticket_free(ticket);
}

void ticket_forget(struct shard *shard, const struct connection *connection)
{
  LIST_EACH (link, &shard->tickets) {
    struct ticket *ticket = CONTAINER_OF(link, struct ticket, link);
    if (ticket->connection != connection) continue;
    ticket->connection = NULL;
    if (ticket->waiting == 0) ticket_free(ticket);
  }
}

void ticket_free_all(struct shard *shard)
{
  while (!list_empty(&shard->tickets)) ticket_free(CONTAINER_OF(shard->tickets.next, struct ticket, link));
}
