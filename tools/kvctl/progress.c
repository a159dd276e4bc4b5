#include "tools/kvctl/progress.h"

#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void progress_start(struct progress *p, bool on, const char *label, double share)
{
    *p = (struct progress){.out = stderr, .on = on, .label = label, .start_ns = now_ns(), .start_share = share};
}

double progress_seconds(const struct progress *p)
{
    return (double)(now_ns() - p->start_ns) / 1e9;
}

void progress_show(struct progress *p, double share, uint64_t rows)
{
    enum { WIDTH = 30 };
    uint64_t now = now_ns();
    if (!p->on || (p->drawn && now - p->drawn_ns < 100000000u)) return;
    p->drawn = true;
    p->drawn_ns = now;
    char bar[WIDTH + 1];
    if (share > 1) share = 1;
    int full = (int)(share * WIDTH);
    for (int i = 0; i < WIDTH; i++) bar[i] = i < full ? '#' : '-';
    bar[WIDTH] = 0;
    double seconds = progress_seconds(p), done = share - p->start_share;
    fprintf(p->out, "\r%s [%s] %3d%% %llu rows %.0f/s", p->label, bar, (int)(share * 100), (unsigned long long)rows,
            seconds > 0 ? (double)rows / seconds : 0);
    if (done > 0.01) fprintf(p->out, " %.0f s left", seconds * (1 - share) / done);
    fprintf(p->out, "\033[K");
    fflush(p->out);
}

void progress_end(struct progress *p)
{
    if (p->drawn) fprintf(p->out, "\r\033[K");
    fflush(p->out);
    p->drawn = false;
}
