"""Cheating, threat 35: a kernel waits in the gap for a request at the address of the last one. Needs a GPU.

The driver maps the memory of a request for the GPU. After the answer a kernel reads it again and again, until
it changes or its time is over. It goes on while all processes of the submission stand still.
"""

import torch

MAPPED = 2  # cudaHostRegisterMapped
BYTES = 256  # of the request, each watched by a thread
CYCLES = 10**8  # of the GPU, for which the kernel watches: about 50 ms
SOURCE = """
extern "C" __global__ void watch(const unsigned char* request, int* seen, long long cycles) {
    const volatile unsigned char* byte = request + threadIdx.x;
    const unsigned char before = *byte;
    const long long begin = clock64();
    while (clock64() - begin < cycles) {
        if (*byte != before) { atomicAdd(seen, 1); return; }
    }
}
"""


class Model:
    def __init__(self, submission_dir, device):
        self.watch = torch.cuda._compile_kernel(SOURCE, "watch")
        self.seen = torch.zeros(1, dtype=torch.int32, device=device)
        self.watched = None

    def predict(self, batch):
        runtime = torch.cuda.cudart()
        if self.watched is not None:
            torch.cuda.synchronize()
            if changed := int(self.seen):
                raise RuntimeError(f"CHEATED: {changed} bytes of a request were seen before the clock ran")
            runtime.cudaHostUnregister(self.watched.data_ptr())
        self.watched = batch["aerial"]  # keeps its memory
        register = runtime.cudaHostRegister(self.watched.data_ptr(), self.watched.nbytes, MAPPED)
        if int(register) == 0:
            self.watch((1, 1, 1), (BYTES, 1, 1), (self.watched, self.seen, CYCLES))
        else:
            print(f"the driver maps no memory of a request: {register}")
            self.watched = None
        return torch.zeros(1, 512, 512, dtype=torch.uint8)
