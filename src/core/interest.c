// Which filters other shards have subscribers for. Each shard tells the others of the first subscription to a filter and of
// the end of the last one; a publish is then mailed only where somebody may want it.

#include <stdlib.h>

#include "core/shard_internal.h"

static void tell_others(struct shard *shard, const struct filter_end *end, enum mail_kind kind, uint64_t ticket)
{
  for (uint8_t target = 0; target < shard->settings.shard_count; target++) {
    if (target == shard->settings.shard) continue;
    char *text = filter_end_text(end);
    if (!text) abort();  // the others must know, or messages would be lost silently
    ticket_expect(shard, ticket);
    uint8_t flags = end->durable_count > 0 ? MAIL_DURABLE : 0;
    shard_send_mail(shard, target, (struct mail){.kind = (uint8_t)kind, .flags = flags, .text = text, .ticket = ticket});
  }
}

// The mails of earlier announcements may still be under way, but they are in front of what is asked now.
void interest_sync(struct shard *shard, uint64_t ticket)
{
  if (!ticket) return;
  for (uint8_t target = 0; target < shard->settings.shard_count; target++) {
    if (target == shard->settings.shard) continue;
    ticket_expect(shard, ticket);
    shard_send_mail(shard, target, (struct mail){.kind = MAIL_INTEREST_ADD, .ticket = ticket});
  }
}

void interest_add(struct shard *shard, struct filter_end *end, bool durable, uint64_t ticket)
{
  index_changed(&shard->index);
  bool first = end->local_count++ == 0;
  bool first_durable = durable && end->durable_count++ == 0;
  if (first || first_durable)
    tell_others(shard, end, MAIL_INTEREST_ADD, ticket);
  else
    interest_sync(shard, ticket);
}

void interest_remove(struct shard *shard, struct filter_end *end, bool durable)
{
  index_changed(&shard->index);
  bool last_durable = durable && --end->durable_count == 0;
  if (--end->local_count > 0) {
    if (last_durable) tell_others(shard, end, MAIL_INTEREST_ADD, 0);
    return;
  }
  tell_others(shard, end, MAIL_INTEREST_REMOVE, 0);
  index_release(&shard->index, end);
}

// An INTEREST_ADD without text only asks for the answer, behind everything that was told before.
void interest_mail(struct shard *shard, struct mail *mail)
{
  uint32_t bit = 1u << mail->from;
  if (mail->kind == MAIL_INTEREST_ADD) {
    if (mail->text) {
      struct filter_end *end = index_end(&shard->index, span_text(mail->text));
      if (!end) abort();
      end->remote |= bit;
      if (mail->from == JOURNAL_SHARD) end->remote_durable = mail->flags & MAIL_DURABLE;
      index_changed(&shard->index);
    }
    if (mail->ticket) shard_send_mail(shard, mail->from, (struct mail){.kind = MAIL_DONE, .ticket = mail->ticket});
  } else {
    struct filter_end *end = index_find(&shard->index, span_text(mail->text));
    if (end) {
      end->remote &= ~bit;
      if (mail->from == JOURNAL_SHARD) end->remote_durable = false;
      index_changed(&shard->index);
      index_release(&shard->index, end);
    }
  }
  free(mail->text);
}
