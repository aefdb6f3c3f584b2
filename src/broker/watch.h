// Notices that files change, however they do: written in place, replaced by a rename, or by a symbolic link on the way to
// them that is flipped, as Kubernetes does it with its secrets. Watches the directories, not the files. Says only that
// something may have changed, when it has been quiet again for a moment. Used by the control thread.
#pragma once

#include <event2/event.h>

#include "base/error.h"
#include "broker/file_set.h"

struct watch;

// `changed` is called 200 ms after the last sign of a change, and after the last write to one of the files, at the latest 2 s
// after the first; and once a minute, for file systems that give no signs.
CHECK_RESULT enum status watch_open(struct event_base *base, void (*changed)(void *context), void *context,
                                    struct watch **out, struct error *error);
void watch_close(struct watch *watch);  // NULL is harmless

// Which files, from now on: those of the set, which may change or go afterwards. Directories that cannot be watched are left
// to the minute.
CHECK_RESULT enum status watch_files(struct watch *watch, const struct file_set *files, struct error *error);
