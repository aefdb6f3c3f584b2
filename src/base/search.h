// Binary search.
#pragma once

#include <stddef.h>

// The first index below `count` for which the condition `is_before`, an expression of `index`, does not hold; `count` when it
// holds for all. It has to hold for none behind one for which it does not.
#define SEARCH_FIRST(index, count, is_before)                                                                               \
  ({                                                                                                                        \
    size_t search_low = 0, search_high = (count);                                                                           \
    while (search_low < search_high) {                                                                                      \
      size_t index = search_low + (search_high - search_low) / 2;                                                           \
      if (is_before)                                                                                                        \
        search_low = index + 1;                                                                                             \
      else                                                                                                                  \
        search_high = index;                                                                                                \
    }                                                                                                                       \
    search_low;                                                                                                             \
  })
