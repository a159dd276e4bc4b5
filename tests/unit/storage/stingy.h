#ifndef TESTS_UNIT_STORAGE_STINGY_H
#define TESTS_UNIT_STORAGE_STINGY_H
#include "tests/unit/storage/node.h"

/* A checkpoint in front of the one of a node: it finds no room when told so, and a test may put its own calls in its place. */
struct stingy {
    struct checkpoint base;
    struct checkpoint *inner;
    struct checkpoint_ops ops;
    enum kv_err commit_err;
    int commits, commits_good; /* the error comes behind so many good ones */
};
static struct stingy *stingy_of(struct checkpoint *c)
{
    return container_of(c, struct stingy, base);
}
static enum kv_err stingy_begin(struct checkpoint *c)
{
    return stingy_of(c)->inner->ops->begin(stingy_of(c)->inner);
}
static enum kv_err stingy_put(struct checkpoint *c, const struct store_row *r)
{
    return stingy_of(c)->inner->ops->put(stingy_of(c)->inner, r);
}
static enum kv_err stingy_del(struct checkpoint *c, const struct store_row *r)
{
    return stingy_of(c)->inner->ops->del(stingy_of(c)->inner, r);
}
static enum kv_err stingy_delete_range(struct checkpoint *c, enum store_class k, struct kv_range r)
{
    return stingy_of(c)->inner->ops->delete_range(stingy_of(c)->inner, k, r);
}
static enum kv_err stingy_mark(struct checkpoint *c, const struct checkpoint_mark *m)
{
    return stingy_of(c)->inner->ops->mark(stingy_of(c)->inner, m);
}
static enum kv_err stingy_commit(struct checkpoint *c)
{
    struct stingy *s = stingy_of(c);
    s->commits++;
    if (s->commit_err != KV_OK && s->commits > s->commits_good) return s->commit_err;
    return s->inner->ops->commit(s->inner);
}
static void stingy_abort(struct checkpoint *c)
{
    stingy_of(c)->inner->ops->abort(stingy_of(c)->inner);
}
static enum kv_err stingy_view_open(struct checkpoint *c, struct checkpoint_view **out)
{
    return stingy_of(c)->inner->ops->view_open(stingy_of(c)->inner, out);
}
static uint64_t stingy_bytes(const struct checkpoint *c)
{
    const struct stingy *s = container_of((struct checkpoint *)(uintptr_t)c, struct stingy, base);
    return s->inner->ops->bytes(s->inner);
}

static enum kv_err stingy_trim(struct checkpoint *c)
{
    return stingy_of(c)->inner->ops->trim(stingy_of(c)->inner);
}

static void stingy_wrap(struct stingy *s, struct node *n)
{
    *s = (struct stingy){.inner = n->checkpoint, .ops = *n->checkpoint->ops};
    s->ops.begin = stingy_begin;
    s->ops.put = stingy_put;
    s->ops.del = stingy_del;
    s->ops.delete_range = stingy_delete_range;
    s->ops.mark = stingy_mark;
    s->ops.commit = stingy_commit;
    s->ops.abort = stingy_abort;
    s->ops.view_open = stingy_view_open;
    s->ops.bytes = stingy_bytes;
    s->ops.trim = stingy_trim;
    s->base.ops = &s->ops;
    n->options.checkpoint = &s->base;
}
#endif
