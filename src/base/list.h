// An intrusive, circular, doubly linked list. The head is a link too. Constant time for everything but walking.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct link {
  struct link *previous;
  struct link *next;
};

// The object of which *pointer is the member.
// clang-format off
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))
// clang-format on

// Walks from first to last; the current element may be removed while walking.
#define LIST_EACH(cursor, head)                                                                                             \
  for (struct link *cursor = (head)->next, *cursor##_next = cursor->next; cursor != (head);                                 \
       cursor = cursor##_next, cursor##_next = cursor->next)

static inline void list_init(struct link *head)
{
  head->previous = head;
  head->next = head;
}

static inline bool list_empty(const struct link *head)
{
  return head->next == head;
}

// True when the link was list_init'ed or removed, and is in no list.
static inline bool link_idle(const struct link *link)
{
  return link->next == link;
}

static inline void list_insert_before(struct link *position, struct link *link)
{
  link->previous = position->previous;
  link->next = position;
  position->previous->next = link;
  position->previous = link;
}

static inline void list_append(struct link *head, struct link *link)
{
  list_insert_before(head, link);
}

// Leaves the link idle, so that removing twice is harmless.
static inline void list_remove(struct link *link)
{
  link->previous->next = link->next;
  link->next->previous = link->previous;
  list_init(link);
}

// The first link, removed; NULL from an empty list.
static inline struct link *list_take_first(struct link *head)
{
  struct link *first = head->next;
  if (first == head) return NULL;
  list_remove(first);
  return first;
}

// Moves all links of `from`, in order, to the empty list `to`.
static inline void list_take_all(struct link *to, struct link *from)
{
  list_init(to);
  if (list_empty(from)) return;
  to->next = from->next;
  to->previous = from->previous;
  to->next->previous = to;
  to->previous->next = to;
  list_init(from);
}
