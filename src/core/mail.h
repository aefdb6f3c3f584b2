// What one shard tells another. A mail is moved, not copied: whoever takes it owns what it refers to. Mails between two
// shards keep their order; nothing is said about mails of different senders. core makes and reads them, the loop (or the
// simulation) carries them.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct message;

enum mail_kind {
  MAIL_PUBLISH,  // message: deliver to your subscribers. flags: MAIL_RETAIN to store it (or to clear) too; MAIL_COMMIT: tell
                 // when it is safe
  MAIL_INTEREST_ADD,  // text: a filter somebody on the sender's shard subscribes to; flags: MAIL_DURABLE, a durable session
                      // does. ticket: answer with MAIL_DONE
  MAIL_INTEREST_REMOVE,  // text
  MAIL_DONE,             // ticket. flags: MAIL_REFUSED, to a MAIL_TAKE_OVER
  MAIL_SHARE_JOIN,       // text: "share/filter"; member joins the group that the receiver owns. ticket
  MAIL_SHARE_LEAVE,      // text, member
  MAIL_SHARE_STATE,      // text, member, flags: MAIL_ONLINE or 0
  MAIL_SHARE_DELIVER,    // message, member: chosen for this one. ticket2 and count name the group, for a return
  MAIL_SHARE_RETURN,     // message, text (or ticket2 and count): the chosen member could not take it; choose another
  MAIL_SHARE_CREDIT,     // text, member, count: that many deliveries are complete
  MAIL_CONGESTION,  // flags: MAIL_CONGESTED or 0: whether the sender has congested sessions (congestion.c); one has just
                    // recovered
  MAIL_FREE,        // message: the first of a chain of the receiver's messages that nobody needs any more
  MAIL_TAKE_OVER,   // text: a client identifier that moves to the sender, which will keep its session; behind its NUL the
                    // user, `count` bytes. ticket
  MAIL_COMMITTED,   // ticket: how many bytes of the receiver's MAIL_PUBLISH with MAIL_COMMIT are safe
  MAIL_HOST,        // pointer: belongs to the loop, core never sees it
};

enum { MAIL_RETAIN = 1, MAIL_ONLINE = 2, MAIL_CONGESTED = 4, MAIL_COMMIT = 8, MAIL_DURABLE = 16, MAIL_REFUSED = 32 };

struct mail {
  uint8_t kind;
  uint8_t from;  // shard
  uint8_t flags;
  uint8_t qos;  // MAIL_SHARE_JOIN: granted; MAIL_SHARE_DELIVER, _RETURN: of the delivery
  uint32_t count;
  union {
    struct message *message;
    void *pointer;
  };
  union {
    char *text;      // NUL-terminated, heap
    uint64_t stamp;  // MAIL_PUBLISH with MAIL_RETAIN: which of two values of one topic is the later
  };
  union {
    uint64_t ticket;
    uint64_t member;
  };
  uint64_t ticket2;  // where `member` is used too: a ticket, or the hash of a group
};

struct shard;

// Frees what a mail refers to, for mails that never arrive (shutdown); `shard` is the one it is at. MAIL_HOST is the
// caller's.
void mail_discard(struct shard *shard, struct mail *mail);
