#include "core/journal.h"
