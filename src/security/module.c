// The one symbol that skerry-security.so shows (security/module.map).
#include "security/table.h"

#define LOAD(name, parameters, arguments) .name = name,
#define CALL(type, name, parameters, arguments, unloaded) .name = name,

extern const struct security_table skerry_security;
const struct security_table skerry_security = {
    .version = SKERRY_VERSION, .size = sizeof skerry_security, SECURITY_FUNCTIONS(LOAD, CALL)};
