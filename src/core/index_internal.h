// Between index.c (the trie) and match.c (the cache).
#pragma once

#include "core/index.h"

// The literal child of a node, or NULL.
struct node *index_child(const struct index *index, const struct node *parent, struct span level);

void index_cache_clear(struct index *index);
