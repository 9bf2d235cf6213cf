/* Classifies images with a Flywheel bundle.
 *
 *     char error[256];
 *     flywheel_classifier *classifier = flywheel_open("bundle", "trusted.pem", error, sizeof error);
 *     flywheel_prediction prediction;
 *     if (classifier && flywheel_classify(classifier, jpeg, jpeg_length, &prediction, error, sizeof error))
 *         printf("%s %.1f %%\n", flywheel_label(classifier, prediction.class_index), 100 * prediction.confidence);
 *     flywheel_close(classifier);
 *
 * Link with libflywheel_edge.a or libflywheel_edge.so: `cargo build --release -p flywheel-capi` makes both
 * (not the profile `device`, in which a fault ends the process). A classifier may be used by
 * several threads at once; only flywheel_close must be alone.
 */
#ifndef FLYWHEEL_EDGE_H
#define FLYWHEEL_EDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An opened bundle. */
typedef struct flywheel_classifier flywheel_classifier;

/* What a bundle says of an image. */
typedef struct flywheel_prediction {
    /* Index of the most probable class, for flywheel_label. */
    size_t class_index;
    /* Its calibrated probability. */
    double confidence;
    /* Whether that is enough for a pseudo-label. */
    bool is_confident;
} flywheel_prediction;

/* Opens the bundle in a folder: verifies its signature by the key in the file trusted_key, unless that is NULL, and every
 * byte of it, and computes its golden vectors.
 *
 * Returns NULL if it is not fit to serve, and writes why into error: at most error_size bytes, the last of them a zero. Paths
 * are UTF-8. error may be NULL if error_size is 0. */
flywheel_classifier *flywheel_open(const char *bundle, const char *trusted_key, char *error, size_t error_size);

/* Number of classes. */
size_t flywheel_classes(const flywheel_classifier *classifier);

/* Name of a class in UTF-8, valid until the classifier is closed; NULL if there is no such class. */
const char *flywheel_label(const flywheel_classifier *classifier, size_t class_index);

/* Classifies the length bytes of a JPEG or PNG file. Returns false if they are no whole image, and writes why into error, as
 * flywheel_open does. */
bool flywheel_classify(const flywheel_classifier *classifier, const uint8_t *image, size_t length,
                       flywheel_prediction *prediction, char *error, size_t error_size);

/* Frees a classifier; nothing happens if it is NULL. */
void flywheel_close(flywheel_classifier *classifier);

#ifdef __cplusplus
}
#endif

#endif
