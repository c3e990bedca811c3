/* The operators of domain `mobileprune` for ONNX Runtime: single layers (SparseConv, SparseGemm) and blocks of them
   (SparseConvInvertedResidual, SparseConvSeparable), with or without a residual, with each activation. A file's numbers and
   attributes come from strangers: all that a kernel relies on is checked here. */
#include <string.h>

#include "mobileprune_kernels.h"
#include "ort_api.h"

#define TRY(call)                      \
  do {                                 \
    ort_status *status_ = (call);      \
    if (status_ != NULL) return status_; \
  } while (0)
#define REFUSE(api, why) return ORT(api, CreateStatus)(ORT_CODE_INVALID_ARGUMENT, "mobileprune: " why)

enum { ALIGNMENT = 64, MAX_RANK = 4 };

typedef enum { CONV, GEMM, INVERTED_RESIDUAL, SEPARABLE } base_;

typedef struct {
  ort_op op; /* first: ONNX Runtime gives it back */
  const char *name;
  base_ base;
  int adds;
  mp_activation activation;
} operator_;

typedef struct {
  ort_api api;
  ort_allocator *allocator;
  int64_t in[3], out[3]; /* channels, height, width */
  const mp_packed *layer;
  const mp_packed_block *block; /* instead of a layer */
  size_t rank, residual;        /* the residual's place among the inputs; 0: there is none */
  void *memory;                 /* holds the packed weights */
} kernel;

static size_t constants(base_ base) { return base == INVERTED_RESIDUAL ? 6 : base == SEPARABLE ? 4 : 2; }

static void *aligned(void *memory) {
  return (void *)(((uintptr_t)memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/* Shape and numbers of a tensor of `rank` axes; dimensions that it lacks are 1. */
static ort_status *read(ort_api api, const ort_value *value, size_t rank, int64_t shape[MAX_RANK], float **numbers) {
  ort_shape *info = NULL;
  size_t found = 0;
  int type = 0;
  TRY(ORT(api, GetTensorTypeAndShape)(value, &info));
  ort_status *status = ORT(api, GetTensorElementType)(info, &type);
  if (!status) status = ORT(api, GetDimensionsCount)(info, &found);
  for (int i = 0; i < MAX_RANK; i++) shape[i] = 1;
  if (!status && found == rank && rank <= MAX_RANK) status = ORT(api, GetDimensions)(info, shape, rank);
  ORT(api, ReleaseTensorTypeAndShapeInfo)(info);
  if (status) return status;
  if (type != ORT_TYPE_FLOAT || found != rank) REFUSE(api, "an input is not float32 of the rank that the operator takes");
  return ORT(api, GetTensorMutableData)((ort_value *)value, (void **)numbers);
}

static ort_status *constant(ort_api api, const ort_info *info, size_t index, size_t rank, int64_t shape[MAX_RANK],
                            float **numbers) {
  int is_constant = 0;
  const ort_value *value = NULL;
  TRY(ORT(api, KernelInfoGetConstantInput_tensor)(info, index, &is_constant, &value));
  if (!is_constant || !value) REFUSE(api, "weights and bias must be constants of the graph: make them initializers, or run the file without this library");
  return read(api, value, rank, shape, numbers);
}

static ort_status *integers(ort_api api, const ort_info *info, const char *name, int64_t *values, size_t count) {
  size_t found = count;
  ort_status *status = ORT(api, KernelInfoGetAttributeArray_int64)(info, name, values, &found);
  const int refused = status != NULL; /* missing, or more than there is room for: the runtime does not say which */
  if (refused) ORT(api, ReleaseStatus)(status);
  if (refused || found != count)
    REFUSE(api, "strides, dilations and input_size must have two whole numbers each, pads four; export the file again");
  return NULL;
}

static ort_status *attributes(ort_api api, const ort_info *info, mp_layer *layer) {
  TRY(integers(api, info, "strides", layer->stride, 2));
  TRY(integers(api, info, "dilations", layer->dilation, 2));
  TRY(integers(api, info, "pads", layer->pad, 4));
  TRY(integers(api, info, "input_size", layer->in_size, 2));
  return ORT(api, KernelInfoGetAttribute_int64)(info, "group", &layer->groups);
}

/* Room for packed weights; `wrong`: what a check of the layer found. */
static ort_status *room(kernel *k, const char *wrong, size_t bytes) {
  if (wrong) return ORT(k->api, CreateStatus)(ORT_CODE_INVALID_ARGUMENT, wrong);
  if (!bytes) REFUSE(k->api, "the layer is too large");
  k->memory = k->allocator->alloc(k->allocator, bytes + ALIGNMENT);
  if (!k->memory) REFUSE(k->api, "no memory for the weights");
  return NULL;
}

static void destroy(void *state) {
  kernel *k = state;
  ort_allocator *allocator = k->allocator;
  const ort_api api = k->api;
  if (k->memory) allocator->free(allocator, k->memory);
  allocator->free(allocator, k);
  ORT(api, ReleaseAllocator)(allocator);
}

/* Weights and the bias that follows them. */
static ort_status *layer_constants(const kernel *k, const ort_info *info, size_t index, int64_t shape[MAX_RANK], float **weights,
                                   float **bias) {
  int64_t biases[MAX_RANK];
  TRY(constant(k->api, info, index, k->rank, shape, weights));
  TRY(constant(k->api, info, index + 1, 1, biases, bias));
  if (biases[0] != shape[0]) REFUSE(k->api, "the bias must have a number for each output channel");
  return NULL;
}

static ort_status *fill_layer(kernel *k, const operator_ *op, const ort_info *info) {
  int64_t shape[MAX_RANK];
  float *w = NULL, *b = NULL;
  mp_layer l = {.groups = 1, .in_size = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .activation = op->activation};
  if (op->base == CONV) TRY(attributes(k->api, info, &l));
  TRY(layer_constants(k, info, 1, shape, &w, &b));
  if (l.groups < 1 || l.groups > INT32_MAX || shape[1] > INT32_MAX) REFUSE(k->api, "group is out of range");
  l.out_channels = shape[0];
  l.in_channels = shape[1] * l.groups;
  l.kernel[0] = shape[2];
  l.kernel[1] = shape[3];
  const char *wrong = mp_check(&l);
  const int chosen = wrong ? 0 : mp_choose(&l, w);
  TRY(room(k, wrong, wrong ? 0 : mp_packed_bytes(&l, w, chosen)));
  k->layer = mp_pack(&l, w, b, chosen, aligned(k->memory));
  memcpy(k->in, (int64_t[]){l.in_channels, l.in_size[0], l.in_size[1]}, sizeof k->in);
  k->out[0] = l.out_channels;
  mp_out_size(&l, k->out + 1);
  return NULL;
}

static ort_status *fill_block(kernel *k, const operator_ *op, const ort_info *info) {
  const int expands = op->base == INVERTED_RESIDUAL;
  int64_t shapes[3][MAX_RANK];
  float *w[3] = {NULL}, *bias[3] = {NULL};
  mp_layer l = {0};
  TRY(attributes(k->api, info, &l));
  for (int i = expands ? 0 : 1; i < 3; i++)
    TRY(layer_constants(k, info, (size_t)(1 + 2 * (i - !expands)), shapes[i], &w[i], &bias[i]));
  const int64_t *depthwise = shapes[1], *project = shapes[2];
  mp_block b = {.in_channels = expands ? shapes[0][1] : depthwise[0],
                .channels = depthwise[0],
                .out_channels = project[0],
                .in_size = {l.in_size[0], l.in_size[1]},
                .kernel = depthwise[2],
                .stride = l.stride[0],
                .pad = {l.pad[0], l.pad[1], l.pad[2], l.pad[3]},
                .expands = expands,
                .activation = op->activation};
  const int plain = l.dilation[0] == 1 && l.dilation[1] == 1 && l.stride[0] == l.stride[1] && depthwise[2] == depthwise[3];
  if (!plain || depthwise[1] != 1 || l.groups != b.channels)
    REFUSE(k->api, "the second layer must be depthwise, its kernel and strides square, its dilations 1");
  if (project[1] != b.channels || project[2] != 1 || project[3] != 1)
    REFUSE(k->api, "the last layer must be 1 x 1 and take the channels of the depthwise one");
  if (expands && (shapes[0][0] != b.channels || shapes[0][2] != 1 || shapes[0][3] != 1))
    REFUSE(k->api, "the first layer must be 1 x 1 and give the channels of the depthwise one");
  const mp_block_weights weights = {{w[0], w[1], w[2]}, {bias[0], bias[1], bias[2]}};
  const char *wrong = mp_block_check(&b);
  int chosen[2] = {0, 0};
  if (!wrong) mp_block_choose(&b, &weights, chosen);
  TRY(room(k, wrong, wrong ? 0 : mp_block_packed_bytes(&b, &weights, chosen)));
  k->block = mp_block_pack(&b, &weights, chosen, aligned(k->memory));
  memcpy(k->in, (int64_t[]){b.in_channels, b.in_size[0], b.in_size[1]}, sizeof k->in);
  k->out[0] = b.out_channels;
  mp_block_out_size(&b, k->out + 1);
  return NULL;
}

static ort_status *create(const ort_op *op, ort_api api, const ort_info *info, void **state) {
  const operator_ *mine = (const operator_ *)op;
  ort_allocator *allocator = NULL;
  TRY(ORT(api, KernelInfoGetAllocator)(info, 0, &allocator));
  kernel *k = allocator->alloc(allocator, sizeof *k);
  if (!k) {
    ORT(api, ReleaseAllocator)(allocator);
    REFUSE(api, "no memory");
  }
  *k = (kernel){.api = api, .allocator = allocator, .rank = mine->base == GEMM ? 2 : 4};
  k->residual = mine->adds ? 1 + constants(mine->base) : 0;
  const int is_layer = mine->base == CONV || mine->base == GEMM;
  ort_status *status = (is_layer ? fill_layer : fill_block)(k, mine, info);
  if (status)
    destroy(k);
  else
    *state = k;
  return status;
}

typedef struct {
  ort_api api;
  const ort_context *context;
} pool;

static void run_in_pool(void *state, mp_task task, void *argument, size_t count) {
  const pool *p = state;
  ort_status *status = ORT(p->api, KernelContext_ParallelFor)(p->context, task, count, 0, argument);
  if (!status) return;
  ORT(p->api, ReleaseStatus)(status); /* it has refused before any task began */
  for (size_t i = 0; i < count; i++) task(argument, i);
}

static ort_status *compute(void *state, ort_context *context) {
  const kernel *k = state;
  const ort_api api = k->api;
  const ort_value *x = NULL, *residual = NULL;
  ort_value *y = NULL;
  float *numbers = NULL, *added = NULL, *out = NULL;
  int64_t shape[MAX_RANK], added_shape[MAX_RANK];
  TRY(ORT(api, KernelContext_GetInput)(context, 0, &x));
  TRY(read(api, x, k->rank, shape, &numbers));
  if (shape[1] != k->in[0] || shape[2] != k->in[1] || shape[3] != k->in[2])
    REFUSE(api, "the input's channels, height and width must be those of the weights and of input_size");
  const int64_t expected[MAX_RANK] = {shape[0], k->out[0], k->out[1], k->out[2]};
  if (k->residual) {
    TRY(ORT(api, KernelContext_GetInput)(context, k->residual, &residual));
    TRY(read(api, residual, k->rank, added_shape, &added));
    for (int i = 0; i < MAX_RANK; i++)
      if (added_shape[i] != expected[i]) REFUSE(api, "what is added must have the output's shape");
  }
  TRY(ORT(api, KernelContext_GetOutput)(context, 0, expected, k->rank, &y));
  TRY(ORT(api, GetTensorMutableData)(y, (void **)&out));
  if (shape[0] == 0) return NULL;
  const size_t bytes = k->block ? mp_block_scratch_bytes(k->block, shape[0]) : mp_scratch_bytes(k->layer, shape[0]);
  if (!bytes) REFUSE(api, "too many images for one call: run fewer at once");
  void *scratch = k->allocator->alloc(k->allocator, bytes + ALIGNMENT);
  if (!scratch) REFUSE(api, "no memory for padded copies");
  pool state_of_run = {api, context};
  const mp_threads threads = {run_in_pool, &state_of_run};
  if (k->block)
    mp_block_run(k->block, numbers, added, out, shape[0], aligned(scratch), &threads);
  else
    mp_run(k->layer, numbers, added, out, shape[0], aligned(scratch), &threads);
  k->allocator->free(k->allocator, scratch);
  return NULL;
}

static const char *name_of(const ort_op *op) { return ((const operator_ *)op)->name; }
static const char *provider(const ort_op *op) { return (void)op, "CPUExecutionProvider"; }
static size_t inputs(const ort_op *op) {
  const operator_ *mine = (const operator_ *)op;
  return 1 + constants(mine->base) + (size_t)mine->adds;
}
static size_t outputs(const ort_op *op) { return (void)op, (size_t)1; }
static int float_type(const ort_op *op, size_t i) { return (void)op, (void)i, ORT_TYPE_FLOAT; }
static int required(const ort_op *op, size_t i) { return (void)op, (void)i, 0; }
static int one(const ort_op *op) { return (void)op, 1; }

#define OPERATOR(label, kind, has_residual, f)                                 \
  {.op = {.version = ORT_API_VERSION_USED,                                     \
          .name = name_of,                                                     \
          .provider = provider,                                                \
          .input_type = float_type,                                            \
          .input_count = inputs,                                               \
          .output_type = float_type,                                           \
          .output_count = outputs,                                             \
          .destroy = destroy,                                                  \
          .input_kind = required,                                              \
          .output_kind = required,                                             \
          .input_memory = required,                                            \
          .input_arity = one,                                                  \
          .input_same = one,                                                   \
          .output_arity = one,                                                 \
          .output_same = one,                                                  \
          .create = create,                                                    \
          .compute = compute},                                                 \
   .name = label,                                                              \
   .base = kind,                                                               \
   .adds = has_residual,                                                       \
   .activation = f},
#define ACTIVATED(name, kind, has_residual)                 \
  OPERATOR(name "Relu", kind, has_residual, MP_RELU)        \
  OPERATOR(name "Relu6", kind, has_residual, MP_RELU6)      \
  OPERATOR(name "HardSwish", kind, has_residual, MP_HARD_SWISH)
#define LAYERS(name, kind)                                                                                            \
  OPERATOR(name, kind, 0, MP_IDENTITY) ACTIVATED(name, kind, 0) OPERATOR(name "Add", kind, 1, MP_IDENTITY)            \
  ACTIVATED(name "Add", kind, 1)
#define BLOCKS(name, kind) ACTIVATED(name, kind, 0) ACTIVATED(name "Add", kind, 1)

static const operator_ operators[] = {LAYERS("SparseConv", CONV) LAYERS("SparseGemm", GEMM)
                                          BLOCKS("SparseConvInvertedResidual", INVERTED_RESIDUAL)
                                              BLOCKS("SparseConvSeparable", SEPARABLE)};

/* Counts up with every change of the operators: who loads the library can tell an older build. */
MP_API int mp_version(void) { return 1; }

/* One domain for all sessions: ONNX Runtime wants it to live as long as they do, so it is never released. */
MP_API ort_status *RegisterCustomOps(ort_options *options, const ort_base *base) {
  const ort_api api = base->get_api(ORT_API_VERSION_USED);
  static ort_domain *domain; /* made by the first session; a second one at the same time at worst makes another */
  if (!api) /* every runtime has the first version, and errors lie where they always did */
    return ORT(base->get_api(1), CreateStatus)(ORT_CODE_NOT_IMPLEMENTED,
                                               "mobileprune: needs ONNX Runtime 1.18; update it, or run without this library");
  if (!domain) {
    ort_domain *made = NULL;
    TRY(ORT(api, CreateCustomOpDomain)("mobileprune", &made));
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
      TRY(ORT(api, CustomOpDomain_Add)(made, &operators[i].op));
    domain = made;
  }
  return ORT(api, AddCustomOpDomain)(options, domain);
}
