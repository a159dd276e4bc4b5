#include "storage/store_impl.h"

/* How large ranges are: asked on the checkpoint thread, where no commit can come in between. */

static void sizes_work(struct disk_request *q)
{
    struct store_sizes *x = container_of(q, struct store_sizes, io);
    x->err = x->checkpoint->ops->sizes(x->checkpoint, x->of, x->count);
}

static void sizes_done(struct disk_request *q, enum kv_err err)
{
    struct store_sizes *x = container_of(q, struct store_sizes, io);
    x->done(x, err != KV_OK ? err : x->err);
}

void store_sizes(struct store *s, struct store_sizes *x)
{
    x->checkpoint = s->o.checkpoint;
    x->io.run = sizes_work;
    x->io.done = sizes_done;
    s->o.disk->ops->work(s->o.disk, &x->io);
}
