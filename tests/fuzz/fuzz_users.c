/* resp.users of any bytes: nothing may crash, a refusal names a line, and who is taken in is found, with a line that
 * can be checked. */
#include "server/users.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct users u;
    char why[128] = "";
    enum kv_err err = users_parse("f", kv_slice(data, size), &u, why, sizeof why);
    assert((err == KV_OK) == (why[0] == '\0'));
    for (uint32_t i = 0; i < u.count; i++) {
        const struct user *p = &u.list[i];
        assert(users_find(&u, kv_str(p->name)) == p && kv_name_is_valid(kv_str(p->name)) && passwd_line_valid(p->line));
        assert(p->keyspace[0] == '\0' || kv_name_is_valid(kv_str(p->keyspace)));
    }
    users_free(&u);
    return 0;
}
