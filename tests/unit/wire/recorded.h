#ifndef RECORDED_H
#define RECORDED_H
/* A conversation of two channels with fixed keys, recorded once from this code: what travels
 * must not change. Static keys 0x11.. (dialler) and 0x22.., ephemeral keys 0x33.. and 0x44..,
 * prologue "test/1". */
static const char recorded_1[] =
    "00207b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14";
static const char recorded_2[] =
    "006eff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6bfcadb15080d9fd0434a18565"
    "751d3b6022bec571f33b6212486a1bffa54d1a1e75114bc4663a9d9d57cff38ca637fbcedea5abdbb78b33000a2a"
    "419b84813e47dfbe038f6921f96991ba2826c6d9";
static const char recorded_3[] =
    "004da7ea7dd47dddbcfcd736b91b174c6107b2ad26c161965a119a7b644e0c6b3d06dcc31d5ae71b8758356df7c4"
    "abce8fa371dc3c4eaa7d52d6b277f57155112af7582ebca54b2ce62a506df502b3";
static const char recorded_4[] = /* frames "first", "second" */
    "0023d730d2fbf3188e5f63650961643411a6101a26f2fb1bdb4b314a970f80c8070f40631a";
static const char recorded_5[] = /* frame "answer" */
    "001a12e0f810d5746aceebb0e6f71c8b747eb8fc4461749a645ac6bd";
static const char recorded_refusal[] = /* instead of it: WRONG_CLUSTER, "no" */
    "0018eb1f07efa01877d6fc0c179b36a0be9e260e0cbaeab76a9e";
#endif
