/* Loads a SavedModel through TensorFlow's C library and runs one image through it; no Python.

   serve MODEL image.raw height width [rater seed] answer.raw INPUTS... OUTPUT
   INPUTS and OUTPUT are names of tensors, "operation:index"; raw files hold float32. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

static void check(TF_Status *status) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s\n", TF_Message(status));
  exit(1);
}

static TF_Output find(TF_Graph *graph, char *name) {
  char *colon = strrchr(name, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  TF_Output found = {TF_GraphOperationByName(graph, name), index};
  if (!found.oper) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return found;
}

static TF_Tensor *image(const char *path, int64_t height, int64_t width) {
  int64_t dims[4] = {1, height, width, 1};
  size_t bytes = sizeof(float) * height * width;
  TF_Tensor *tensor = TF_AllocateTensor(TF_FLOAT, dims, 4, bytes);
  FILE *file = fopen(path, "rb");
  if (!file || fread(TF_TensorData(tensor), 1, bytes, file) != bytes) exit(2);
  fclose(file);
  return tensor;
}

static TF_Tensor *integer(const char *text) {
  int64_t one = 1;
  TF_Tensor *tensor = TF_AllocateTensor(TF_INT32, &one, 1, sizeof(int32_t));
  *(int32_t *)TF_TensorData(tensor) = atoi(text);
  return tensor;
}

int main(int argc, char **argv) {
  int draws = argc == 12;
  if (!draws && argc != 8) return 2;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags = "serve";
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], &tags, 1, graph, NULL, status);
  check(status);

  TF_Tensor *values[3] = {image(argv[2], atoll(argv[3]), atoll(argv[4]))};
  int count = draws ? 3 : 1, next = draws ? 7 : 5;
  for (int k = 1; k < count; k++) values[k] = integer(argv[4 + k]);
  const char *answer = argv[next++];
  TF_Output inputs[3];
  for (int k = 0; k < count; k++) inputs[k] = find(graph, argv[next++]);
  TF_Output output = find(graph, argv[next]);

  TF_Tensor *result = NULL;
  TF_SessionRun(session, NULL, inputs, values, count, &output, &result, 1, NULL, 0, NULL, status);
  check(status);
  FILE *file = fopen(answer, "wb");
  if (!file) return 2;
  fwrite(TF_TensorData(result), 1, TF_TensorByteSize(result), file);
  fclose(file);
  for (int k = 0; k < TF_NumDims(result); k++) printf("%lld ", (long long)TF_Dim(result, k));
  printf("\n");
  TF_CloseSession(session, status);
  return 0;
}
