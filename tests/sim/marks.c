#include "tests/sim/marks.h"
#include <string.h>

static const struct {
    const char *event;
    enum sim_topic topic;
} marks[] = {
#define X(name, event, topic) {event, SIM_TOPIC_##topic},
    SIM_MARKS(X)
#undef X
};

const char *sim_mark_text(enum sim_mark m)
{
    return marks[m].event;
}

enum sim_topic sim_mark_topic(enum sim_mark m)
{
    return marks[m].topic;
}

enum sim_mark sim_mark_find(const char *event)
{
    uint32_t m = 0;
    while (m < SIM_MARK_COUNT && (marks[m].event[0] != event[0] || strcmp(marks[m].event, event) != 0)) m++;
    return (enum sim_mark)m;
}
