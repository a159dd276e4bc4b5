#include "client/base/err.h"

const char *kv_err_text(enum kv_err err)
{
    switch (err) {
#define X(name, code, text)                                                                        \
    case KV_##name:                                                                                \
        return text;
        KV_ERRORS(X)
#undef X
    }
    return "unknown error"; /* a code from a newer peer */
}

const char *kv_err_name(enum kv_err err)
{
    switch (err) {
#define X(name, code, text)                                                                        \
    case KV_##name:                                                                                \
        return #name;
        KV_ERRORS(X)
#undef X
    }
    return "UNKNOWN";
}

const char *kv_applied_text(enum kv_applied applied)
{
    switch (applied) {
    case KV_APPLIED_NO: return "no";
    case KV_APPLIED_MAYBE: return "maybe";
    case KV_APPLIED_YES: return "yes";
    }
    return "maybe"; /* what we cannot read, we cannot rule out */
}
