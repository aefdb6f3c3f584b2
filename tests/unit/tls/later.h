// A clock that can be set ahead, for tests that are linked with --wrap=time: ours, not OpenSSL's.
#pragma once

#include <time.h>

extern time_t later_s;
