"""Times convnet.h, PyTorch and ONNX Runtime in turn, A B A B, on the same networks, batches and threads.

First the results are compared: all three must compute the same outputs from the same weights. Then each
round runs every system once; a ratio is taken within a round, and the median and range of the rounds'
ratios are printed. PyTorch runs in its default and in its channels_last layout, and compiled if that works
here; the fastest of its medians is the one we are compared with. ONNX Runtime runs with all graph
optimisations. --memory compares peak memory instead: each system alone in a process of its own.

Usage: peers.py OURS [--cases revised,resnet18-8] [--threads 1,2] [--rounds 15] [--json FILE] [--memory]
OURS is the program made from ours.c."""
import argparse
import collections
import functools
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy
import torch
from safetensors.torch import load_file

warnings.filterwarnings("ignore", category=DeprecationWarning)


# ---- the networks in PyTorch; tensors are named as ours are (resnet18, vgg16: as torchvision's) ----

def small(convs, dense, dropout):
    layers, channels, side = collections.OrderedDict(), 1, 28
    for number, filters in enumerate(convs, 1):
        layers["conv%d" % number] = torch.nn.Conv2d(channels, filters, 3, padding=1)
        layers["relu%d" % number] = torch.nn.ReLU()
        layers["pool%d" % number] = torch.nn.MaxPool2d(2)
        channels, side = filters, side // 2
    layers["flatten"] = torch.nn.Flatten()
    inputs = channels * side * side
    for number, outputs in enumerate(dense, 1):
        layers["dense%d" % number] = torch.nn.Linear(inputs, outputs)
        if number < len(dense):
            layers["dense_relu%d" % number] = torch.nn.ReLU()
        if number == 1:
            layers["dropout"] = torch.nn.Dropout(dropout)
        inputs = outputs
    return torch.nn.Sequential(layers)


class Residual(torch.nn.Module):
    def __init__(self, inputs, filters, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(filters)
        self.conv2 = torch.nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(filters)
        self.relu = torch.nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1:
            self.downsample = torch.nn.Sequential(torch.nn.Conv2d(inputs, filters, 1, stride, bias=False),
                                                  torch.nn.BatchNorm2d(filters))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (self.downsample(x) if self.downsample else x))


def resnet18():
    layers, inputs = collections.OrderedDict(), 64
    layers["conv1"] = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    layers["bn1"] = torch.nn.BatchNorm2d(64)
    layers["relu"] = torch.nn.ReLU(inplace=True)
    layers["maxpool"] = torch.nn.MaxPool2d(3, 2, 1)
    for number, filters in enumerate((64, 128, 256, 512), 1):
        layers["layer%d" % number] = torch.nn.Sequential(Residual(inputs, filters, 1 + (number > 1)),
                                                         Residual(filters, filters, 1))
        inputs = filters
    layers["avgpool"], layers["flatten"] = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    layers["fc"] = torch.nn.Linear(512, 1000)
    return torch.nn.Sequential(layers)


def vgg16():
    features, channels = [], 3
    for filters in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if filters:
            features += [torch.nn.Conv2d(channels, filters, 3, padding=1), torch.nn.ReLU(inplace=True)]
            channels = filters
        else:
            features.append(torch.nn.MaxPool2d(2))
    head = [torch.nn.Linear(25088, 4096), torch.nn.ReLU(inplace=True), torch.nn.Dropout(),
            torch.nn.Linear(4096, 4096), torch.nn.ReLU(inplace=True), torch.nn.Dropout(), torch.nn.Linear(4096, 1000)]
    return torch.nn.Sequential(collections.OrderedDict(
        features=torch.nn.Sequential(*features), flatten=torch.nn.Flatten(), classifier=torch.nn.Sequential(*head)))


Network = collections.namedtuple("Network", "make side channels classes")
NETWORKS = {"base": Network(lambda: small((16, 32), (128, 50, 10), 0.5), 28, 1, 10),
            "revised": Network(lambda: small((64, 96, 112), (150, 70, 10), 0.1), 28, 1, 10),
            "resnet18": Network(resnet18, 224, 3, 1000),
            "vgg16": Network(vgg16, 224, 3, 1000)}

Case = collections.namedtuple("Case", "network batch inference training")
CASES = {"base": Case("base", 200, True, True), "base-1": Case("base", 1, True, False),
         "revised": Case("revised", 200, True, True), "revised-1": Case("revised", 1, True, False),
         "resnet18-1": Case("resnet18", 1, True, False), "resnet18-8": Case("resnet18", 8, True, False),
         "resnet18-16": Case("resnet18", 16, False, True), "vgg16-8": Case("vgg16", 8, True, False)}


# ---- the systems: each gives run(count), which returns the seconds that count runs took ----

class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("our side stopped at: " + command)
        return answer.strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(step):
    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - start
    return run


def torch_inference(network, images):
    network.eval()

    def run(count):
        with torch.inference_mode():
            return timed(lambda: network(images))(count)
    return run


def torch_training(network, images, labels):
    network.train()
    optimizer, loss = torch.optim.Adam(network.parameters()), torch.nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()
    return timed(step)


def onnx_model(network, images):
    """The network with softmax behind it as ONNX, for this batch size."""
    buffer = io.BytesIO()
    whole = torch.nn.Sequential(network, torch.nn.Softmax(1)).eval()
    torch.onnx.export(whole, (images,), buffer, dynamo=False, input_names=["input"], output_names=["output"])
    return buffer.getvalue()


def onnx_session(model, threads):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_inference(session, images):
    binding = session.io_binding()
    binding.bind_cpu_input("input", images)
    binding.bind_output("output")
    return timed(lambda: session.run_with_iobinding(binding))


def compiled(make):
    """A compiled variant, or None where no compiler for it is to be had."""
    try:
        run = make()
        run(2)
        return run
    except Exception as error:  # whatever the compiler's tool chain raises
        print("  (torch.compile does not work here: %s)" % str(error).splitlines()[0][:90], file=sys.stderr)
        return None


# ---- comparison ----

def compare(systems, rounds, budget=0.1):
    """systems: name -> run(count). Seconds per run, round by round, in turn."""
    counts = {}
    for name, run in systems.items():
        run(1)
        counts[name] = max(1, int(budget / max(run(1), 1e-7)))
    times = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            times[name].append(run(counts[name]) / counts[name])
    return times


def report(title, batch, times, results):
    ours = times.pop("ours")
    print("%s: ours %.4g images/s" % (title, batch / statistics.median(ours)))
    row = {"case": title, "ours": batch / statistics.median(ours), "peers": {}}
    for name, theirs in times.items():
        ratios = sorted(t / o for t, o in zip(theirs, ours))
        row["peers"][name] = {"images_per_second": batch / statistics.median(theirs), "ratio": statistics.median(ratios),
                              "low": ratios[0], "high": ratios[-1]}
        print("    %-24s %9.4g images/s   ours is %5.2f times as fast (%.2f to %.2f)"
              % (name, batch / statistics.median(theirs), statistics.median(ratios), ratios[0], ratios[-1]))
    for system in ("PyTorch", "ONNX Runtime"):
        best = [peer["ratio"] for name, peer in row["peers"].items() if name.startswith(system)]
        if best:
            print("    against the best of %s: %.2f" % (system, min(best)))
            row["against " + system] = min(best)
    sys.stdout.flush()
    results.append(row)


def check(name, got, expected):
    distance = numpy.abs(got - expected).max() / numpy.abs(expected).max()
    if not distance < 1e-4:
        sys.exit("%s computes something else: largest difference %g of the largest output" % (name, distance))


def opened(ours, case, threads):
    """Our session for the case; its weights, images in PyTorch's layout and outputs."""
    network = NETWORKS[case.network]
    with tempfile.TemporaryDirectory() as folder:
        isa = ours.ask("open %s %d %d" % (case.network, case.batch, threads))
        ours.ask("write " + folder)
        weights = load_file(os.path.join(folder, "weights.safetensors"))
        images = numpy.fromfile(os.path.join(folder, "inputs.f32"), "<f4")
        outputs = numpy.fromfile(os.path.join(folder, "outputs.f32"), "<f4")
    images = torch.from_numpy(images.reshape(case.batch, network.side, network.side, network.channels))
    return isa, weights, images.permute(0, 3, 1, 2).contiguous(), outputs.reshape(case.batch, network.classes)


def loaded(case, weights, channels_last=False):
    network = NETWORKS[case.network].make()
    # a missing count of batches is no matter: running figures come with their values
    missing, extra = network.load_state_dict(weights, strict=False)
    if extra or [name for name in missing if not name.endswith("num_batches_tracked")]:
        sys.exit("tensors do not fit: missing %s, extra %s" % (missing, extra))
    return network.to(memory_format=torch.channels_last) if channels_last else network


def run_case(program, name, threads, rounds, results):
    case = CASES[name]
    torch.set_num_threads(threads)
    ours = Ours(program)
    isa, weights, images, expected = opened(ours, case, threads)
    last = images.to(memory_format=torch.channels_last)
    fresh = functools.partial(loaded, case, weights)
    title = "%s, batch %d, %d thread%s, %s" % (case.network, case.batch, threads, "s" * (threads > 1), isa)
    with torch.inference_mode():
        check("PyTorch", torch.softmax(fresh().eval()(images), 1).numpy(), expected)
    if case.inference:
        session = onnx_session(onnx_model(fresh(), images), threads)
        check("ONNX Runtime", session.run(None, {"input": images.numpy()})[0], expected)
        systems = {"ours": lambda n: float(ours.ask("predict %d" % n)),
                   "PyTorch": torch_inference(fresh(), images),
                   "PyTorch channels_last": torch_inference(fresh(True), last),
                   "PyTorch compiled": compiled(lambda: torch_inference(torch.compile(fresh(), dynamic=False), images)),
                   "ONNX Runtime": onnx_inference(session, images.numpy())}
        report("inference " + title, case.batch, compare({k: v for k, v in systems.items() if v}, rounds), results)
    if case.training:
        labels = torch.randint(0, NETWORKS[case.network].classes, (case.batch,))
        systems = {"ours": lambda n: float(ours.ask("train %d" % n)),
                   "PyTorch": torch_training(fresh(), images, labels),
                   "PyTorch channels_last": torch_training(fresh(True), last, labels),
                   "PyTorch compiled": compiled(lambda: torch_training(torch.compile(fresh(), dynamic=False), images, labels))}
        report("training " + title, case.batch, compare({k: v for k, v in systems.items() if v}, rounds), results)
    ours.close()


# ---- peak memory, each system in a process of its own ----

# Says the peak memory of a process before the task (interpreter, libraries) and after.
# Not ru_maxrss: a process inherits its parent's.
ALONE = """
import sys
def peak(): return [int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
"""
TORCH_ALONE = ALONE + """
sys.path.insert(0, sys.argv[1])
from peers import CASES, NETWORKS, torch, torch_training
idle, case = peak(), CASES[sys.argv[2]]
network = NETWORKS[case.network]
torch.set_num_threads(1)
images = torch.rand(case.batch, network.channels, network.side, network.side)
torch_training(network.make(), images, torch.zeros(case.batch, dtype=torch.long))(5)
print(idle, peak())
"""
ONNX_ALONE = ALONE + """
import numpy, onnxruntime
idle, options = peak(), onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
inputs = {"input": numpy.random.rand(*session.get_inputs()[0].shape).astype("f")}
for _ in range(3): session.run(None, inputs)
print(idle, peak())
"""


def peak_of(*arguments):
    child = subprocess.run([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return map(float, child.stdout.split()[-2:])


def our_peak(program, case, command):
    ours = Ours(program)
    ours.ask("open %s %d 1" % (case.network, case.batch))
    ours.ask(command)
    megabytes = float(ours.ask("memory")) / 1024
    ours.close()
    return megabytes


def report_memory(title, own, idle, peak, results):
    print("peak memory, %s: theirs %.0f MB, of it %.0f MB before it begins; ours %.0f MB: %.2f of theirs, %.2f without "
          "their start" % (title, peak, idle, own, own / peak, own / (peak - idle)))
    results.append({"case": title, "ours_megabytes": own, "megabytes": peak, "idle_megabytes": idle})


def compare_memory(program, results):
    idle, peak = peak_of(TORCH_ALONE, os.path.dirname(os.path.abspath(__file__)), "revised")
    report_memory("training revised, batch 200, against PyTorch", our_peak(program, CASES["revised"], "train 5"), idle,
                  peak, results)
    case, ours = CASES["resnet18-1"], Ours(program)
    _, weights, images, _ = opened(ours, case, 1)
    ours.close()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as file:
            file.write(onnx_model(loaded(case, weights), images))
        idle, peak = peak_of(ONNX_ALONE, path)
    report_memory("inference resnet18, batch 1, against ONNX Runtime", our_peak(program, case, "predict 3"), idle, peak,
                  results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    results = []
    if options.memory:
        compare_memory(options.ours, results)
    else:
        for threads in map(int, options.threads.split(",")):
            for name in options.cases.split(","):
                run_case(options.ours, name, threads, options.rounds, results)
        print(json.dumps({row["case"]: {k: round(v, 2) for k, v in row.items() if k.startswith("against")}
                          for row in results}))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
