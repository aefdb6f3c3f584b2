#include "net/mailbox.h"

size_t mailbox_put(struct mailbox *mailbox, const struct mail *mails, size_t count)
{
  uint32_t written = atomic_load_explicit(&mailbox->written, memory_order_relaxed);
  uint32_t room = MAILBOX_SLOTS - (written - mailbox->read_seen);
  if (room < count) {
    mailbox->read_seen = atomic_load_explicit(&mailbox->read, memory_order_acquire);
    room = MAILBOX_SLOTS - (written - mailbox->read_seen);
  }
  if (count > room) count = room;
  for (size_t i = 0; i < count; i++) mailbox->slots[(written + i) & (MAILBOX_SLOTS - 1)] = mails[i];
  // Sequentially consistent: the sender looks at the receiver's `sleeping` next (see loop.c).
  if (count > 0) atomic_store_explicit(&mailbox->written, written + (uint32_t)count, memory_order_seq_cst);
  return count;
}

bool mailbox_take(struct mailbox *mailbox, struct mail *out)
{
  uint32_t read = atomic_load_explicit(&mailbox->read, memory_order_relaxed);
  if (read == atomic_load_explicit(&mailbox->written, memory_order_acquire)) return false;
  *out = mailbox->slots[read & (MAILBOX_SLOTS - 1)];
  atomic_store_explicit(&mailbox->read, read + 1, memory_order_release);
  return true;
}
