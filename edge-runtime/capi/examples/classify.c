/* Classifies image files with a bundle:
 *
 *     cargo build --release -p flywheel-capi
 *     cc -Iedge-runtime/capi/include edge-runtime/capi/examples/classify.c -o classify \
 *        target/release/libflywheel_edge.a -lpthread -ldl -lm
 *     ./classify bundle trusted.pem photo.jpg
 */
#include <flywheel_edge.h>
#include <stdio.h>
#include <stdlib.h>

static uint8_t *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    *length = 0;
    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        rewind(file);
        if (size >= 0 && (bytes = malloc((size_t)size + 1)))
            *length = fread(bytes, 1, (size_t)size, file);
    }
    fclose(file);
    return bytes;
}

int main(int count, char **arguments) {
    char error[256];
    int failed = 0;
    if (count < 4) {
        fprintf(stderr, "usage: %s BUNDLE TRUSTED_KEY IMAGE...\n", arguments[0]);
        return 2;
    }
    flywheel_classifier *classifier = flywheel_open(arguments[1], arguments[2], error, sizeof error);
    if (!classifier) {
        fprintf(stderr, "error: %s\n", error);
        return 1;
    }
    for (int i = 3; i < count; i++) {
        size_t length;
        uint8_t *image = read_file(arguments[i], &length);
        flywheel_prediction prediction;
        if (!image) {
            fprintf(stderr, "error: cannot read %s\n", arguments[i]);
            failed = 1;
        } else if (flywheel_classify(classifier, image, length, &prediction, error, sizeof error)) {
            printf("%s: %s %.1f %%%s\n", arguments[i], flywheel_label(classifier, prediction.class_index),
                   100 * prediction.confidence, prediction.is_confident ? ", sure" : "");
        } else {
            fprintf(stderr, "error: %s: %s\n", arguments[i], error);
            failed = 1;
        }
        free(image);
    }
    flywheel_close(classifier);
    return failed;
}
