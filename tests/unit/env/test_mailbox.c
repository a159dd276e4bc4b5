/* Two threads and a way between them: nothing is lost, doubled or out of order, and nobody sleeps on what was sent. */
#include "client/env/mailbox.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>

static void wake(void *context)
{
    sem_post(context);
}

static void put(struct kv_buf *b, uint64_t number, size_t size)
{
    kv_buf_init(b, 0);
    kv_buf_append(b, &number, sizeof number);
    while (b->size < size) kv_buf_append_u8(b, (uint8_t)(number + b->size));
}

static uint64_t number_of(const struct kv_buf *b)
{
    uint64_t number;
    ck_assert_uint_ge(b->size, sizeof number);
    memcpy(&number, kv_buf_slice(b).data, sizeof number);
    for (size_t i = sizeof number; i < b->size; i++) ck_assert_uint_eq(kv_buf_slice(b).data[i], (uint8_t)(number + i));
    return number;
}

START_TEST(full_it_refuses_and_keeps_nothing)
{
    sem_t woken;
    struct kv_buf b, got;
    int count;
    sem_init(&woken, 0, 0);
    struct mailbox *m = mailbox_create(&(struct mailbox_options){.messages_max = 4, .wake = wake, .context = &woken});
    for (uint64_t i = 0; i < 4; i++) {
        put(&b, i, 8);
        ck_assert(mailbox_send(m, &b));
        ck_assert_ptr_null(b.data);
    }
    put(&b, 4, 100);
    ck_assert(!mailbox_send(m, &b));
    ck_assert_uint_eq(b.size, 100);
    ck_assert_uint_eq(mailbox_bytes(m), 32);
    sem_getvalue(&woken, &count);
    ck_assert_int_eq(count, 1); /* once for all of them */
    mailbox_look(m);
    for (uint64_t i = 0; i < 4; i++) {
        ck_assert(mailbox_take(m, &got));
        ck_assert_uint_eq(number_of(&got), i);
        ck_assert_uint_eq(mailbox_bytes(m), 32 - 8 * i); /* taken is not done */
        mailbox_done(m, got.size);
        kv_buf_free(&got);
    }
    ck_assert(!mailbox_take(m, &got));
    ck_assert(mailbox_send(m, &b));
    sem_getvalue(&woken, &count);
    ck_assert_int_eq(count, 2); /* again, as the receiver has looked */
    mailbox_destroy(m);         /* with one that nobody took */
    sem_destroy(&woken);
}
END_TEST

enum { MESSAGES = 20000,
       SLOTS = 64 };
struct way {
    struct mailbox *there, *back;
    sem_t at_there, at_back;
};

/* Sends back what comes, so that each side is sender and receiver. */
static void *echo(void *context)
{
    struct way *w = context;
    struct kv_buf b = {0};
    for (uint64_t next = 0; next < MESSAGES;) {
        while (sem_wait(&w->at_there) != 0) {
        }
        mailbox_look(w->there);
        while (mailbox_take(w->there, &b)) {
            ck_assert_uint_eq(number_of(&b), next);
            next++;
            mailbox_done(w->there, b.size);
            while (!mailbox_send(w->back, &b)) sched_yield();
        }
    }
    return NULL;
}

START_TEST(in_order_between_threads)
{
    struct way w;
    pthread_t thread;
    struct kv_buf b;
    sem_init(&w.at_there, 0, 0);
    sem_init(&w.at_back, 0, 0);
    w.there = mailbox_create(&(struct mailbox_options){.messages_max = SLOTS, .wake = wake, .context = &w.at_there});
    w.back = mailbox_create(&(struct mailbox_options){.messages_max = SLOTS, .wake = wake, .context = &w.at_back});
    ck_assert_int_eq(pthread_create(&thread, NULL, echo, &w), 0);
    uint64_t sent = 0, got = 0;
    while (got < MESSAGES) {
        for (bool room = true; room && sent < MESSAGES && sent - got < SLOTS;) {
            put(&b, sent, 8 + sent % 50);
            room = mailbox_send(w.there, &b);
            if (room) sent++;
            else kv_buf_free(&b);
        }
        while (sem_wait(&w.at_back) != 0) {
        } /* a wake that went lost would end the test here, by its time limit */
        mailbox_look(w.back);
        while (mailbox_take(w.back, &b)) {
            ck_assert_uint_eq(number_of(&b), got);
            got++;
            mailbox_done(w.back, b.size);
            kv_buf_free(&b);
        }
    }
    pthread_join(thread, NULL);
    ck_assert_uint_eq(mailbox_bytes(w.there), 0);
    ck_assert_uint_eq(mailbox_bytes(w.back), 0);
    mailbox_destroy(w.there);
    mailbox_destroy(w.back);
    sem_destroy(&w.at_there);
    sem_destroy(&w.at_back);
}
END_TEST

UNIT_MAIN("mailbox", full_it_refuses_and_keeps_nothing, in_order_between_threads)
