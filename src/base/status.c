// Names of statuses, and the one place where errno values become statuses. Reads errno's constants, never errno itself.
#include "base/status.h"

#include <errno.h>

const char *status_name(enum status status)
{
  switch (status) {
    case OK: return "ok";
    case ERR_NO_MEMORY: return "out of memory";
    case ERR_INVALID: return "invalid";
    case ERR_NOT_FOUND: return "not found";
    case ERR_EXISTS: return "exists already";
    case ERR_FULL: return "full";
    case ERR_AGAIN: return "try again";
    case ERR_CLOSED: return "closed";
    case ERR_DENIED: return "permission denied";
    case ERR_TIMEOUT: return "timed out";
    case ERR_LIMIT: return "limit reached";
    case ERR_IO: return "input/output failure";
  }
  return "unknown status";
}

enum status status_from_errno(int error_number)
{
  switch (error_number) {
    case 0: return OK;
    case ENOMEM: return ERR_NO_MEMORY;
    case EINVAL:
    case EDOM:
    case EAFNOSUPPORT:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR: return ERR_INVALID;
    case ENOENT:
    case ENODEV:
    case EADDRNOTAVAIL: return ERR_NOT_FOUND;
    case EEXIST:
    case EADDRINUSE: return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
    case ENOBUFS: return ERR_FULL;
    case EAGAIN:
    case EINTR:
    case EINPROGRESS:
    case EALREADY:
    case EBUSY: return ERR_AGAIN;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ENOTCONN:
    case ESHUTDOWN: return ERR_CLOSED;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_DENIED;
    case ETIMEDOUT: return ERR_TIMEOUT;
    case EMFILE:
    case ENFILE:
    case EFBIG:
    case EMSGSIZE:
    case E2BIG: return ERR_LIMIT;
    default: return ERR_IO;
  }
}
