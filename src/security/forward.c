// Hands the calls of tls/*.h and auth/*.h on to skerry-security.so. The pointer to its table is the one variable of the
// process that is written while it runs: it goes from NULL to the table, once, and the module is never unloaded.
#include "security/security.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

#include "security/table.h"

static const struct security_table *_Atomic loaded;

static const struct security_table *table(void)
{
  return atomic_load_explicit(&loaded, memory_order_acquire);
}

// Why dlopen failed: a library that the module needs is another package than the module itself.
static enum status explain_missing(const char *why, struct error *error)
{
  if (strstr(why, SECURITY_MODULE ": cannot open"))
    return error_set(error, ERR_NOT_FOUND,
                     "TLS and authentication need " SECURITY_MODULE
                     ", which is not where it should be (lib/skerry beside bin, or "
                     "beside the program in a build directory): install all of skerry " SKERRY_VERSION);
  return error_set(error, ERR_NOT_FOUND,
                   "TLS and authentication need " SECURITY_MODULE
                   ", which cannot be loaded: %s: install what it needs (Debian: "
                   "libssl3, libsodium23, libjansson4)",
                   why);
}

enum status security_load(struct error *error)
{
  if (table()) return OK;
  // Found by the executable's RUNPATH. Two threads at once get the same module.
  void *module = dlopen(SECURITY_MODULE, RTLD_NOW | RTLD_LOCAL);
  if (!module) {
    const char *why = dlerror();
    return explain_missing(why ? why : "no reason given", error);
  }
  const struct security_table *found = dlsym(module, SECURITY_SYMBOL);
  if (!found || strcmp(found->version, SKERRY_VERSION) != 0 || found->size != sizeof *found) {
    enum status status = error_set(
        error, ERR_INVALID,
        SECURITY_MODULE " is of %s %s, this program is skerry " SKERRY_VERSION ": install both from the same build",
        found && strcmp(found->version, SKERRY_VERSION) == 0 ? "another build of skerry" : "skerry",
        found ? found->version : "of an unknown version");
    dlclose(module);
    return status;
  }
  atomic_store_explicit(&loaded, found, memory_order_release);
  return OK;
}

#define LOAD(name, parameters, arguments)                                                                                   \
  enum status name parameters                                                                                               \
  {                                                                                                                         \
    enum status status = security_load(error);                                                                              \
    return status == OK ? table()->name arguments : status;                                                                 \
  }

#define CALL(type, name, parameters, arguments, unloaded)                                                                   \
  type name parameters                                                                                                      \
  {                                                                                                                         \
    const struct security_table *to = table();                                                                              \
    return to ? to->name arguments : unloaded;                                                                              \
  }

SECURITY_FUNCTIONS(LOAD, CALL)
