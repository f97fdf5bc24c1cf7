#!/usr/bin/env python3
"""Captures migration streams of real QEMUs into corpus/: each connection as QEMU wrote it, compressed.

    node-agent/relay/corpus/capture.py OUT [NAME ...] LABEL=COMMAND ...

A QEMU is a label, its version, and a command, which may have a prefix such as `chroot ROOT`, whose sockets are then
looked for below ROOT: an older or newer QEMU of Debian's, unpacked into a folder of its own with what it depends on,
runs so. With names (`pre-copy`, `recovery`, ...) only these migrations are captured.

The guest is a firmware of a few bytes that writes one byte of every page of half a MiB, round and round, so that no
kernel is needed and a stream compresses to little. Memory beside it is filled with a pattern that differs from page to
page; the tests expect it.
"""
import gzip, json, os, select, shlex, shutil, socket, subprocess, sys, threading, time

MEMORY_MIB = 8
PATTERN_AT, PATTERN_PAGES = 2 << 20, 1200  # pages that only the loader wrote


def firmware():
    """Real mode: increment the first byte of each page from 64 KiB to 576 KiB, and begin again."""
    loop = bytes.fromhex("b80010" "8ed8" "fe060000" "050001" "3d0090" "72f2" "ebed")
    image = bytearray(65536)
    image[0:len(loop)] = loop
    image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")  # jmp f000:0000
    return bytes(image)


def pattern():
    return b"".join((b"page %06d of the pattern. " % n * 200)[:4096] for n in range(PATTERN_PAGES))


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        for _ in range(400):
            try:
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")

    def status(self):
        return self("query-migrate").get("status")

    def until(self, *wanted, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            status = self.status()
            if status in wanted:
                return status
            if status in ("failed", "cancelled"):
                raise RuntimeError(self("query-migrate"))
            time.sleep(0.005)
        raise RuntimeError(f"still {self.status()}, not {wanted}")


class Relay:
    """Accepts the source's connections in their order, dials the target for each, and keeps what the source says."""

    def __init__(self, listen, target):
        self.streams, self.pairs, self.target = [], [], target
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(listen)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                source, _ = self.listener.accept()
            except OSError:
                return
            stream = bytearray()
            self.streams.append(stream)
            # Newer targets stand still until they know what a connection is; a preempt channel says nothing at first.
            first = source.recv(65536) if select.select([source], [], [], 0.3)[0] else b""
            stream += first
            for _ in range(1000):
                target = socket.socket(socket.AF_UNIX)
                try:
                    target.connect(self.target)
                    break
                except OSError:
                    time.sleep(0.01)
            target.sendall(first)
            self.pairs.append((source, target))
            threading.Thread(target=self.copy, args=(source, target, stream), daemon=True).start()
            threading.Thread(target=self.copy, args=(target, source, None), daemon=True).start()

    def copy(self, one, other, stream):
        try:
            while data := one.recv(65536):
                if stream is not None:
                    stream += data
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        for pair in self.pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.listener.close()


def migrate(command, out, name, machine, capabilities=(), postcopy=False, recover=False, channels=2,
            bandwidth=None, devices=()):
    root = command[1] if command[0] == "chroot" else ""
    folder = f"/tmp/capture-{os.getpid()}"
    outside = root + folder
    shutil.rmtree(outside, ignore_errors=True)
    os.makedirs(outside)
    open(f"{outside}/firmware", "wb").write(firmware())
    open(f"{outside}/pattern", "wb").write(pattern())
    processes = []
    try:
        def qemu(side, *more):
            arguments = [*command, "-machine", machine + ",hpet=off", "-accel", "tcg", "-m", f"{MEMORY_MIB},maxmem=1G",
                         "-nodefaults", "-display", "none", "-bios", f"{folder}/firmware",
                         "-qmp", f"unix:{folder}/{side}.qmp,server=on,wait=off",
                         "-device", f"loader,file={folder}/pattern,addr={PATTERN_AT:#x},force-raw=on", *devices, *more]
            processes.append(subprocess.Popen(arguments, stderr=open(f"{outside}/{side}.log", "wb")))
            return Qmp(f"{outside}/{side}.qmp")

        source, target = qemu("source"), qemu("target", "-incoming", "defer")
        names = ["return-path", "pause-before-switchover", *capabilities] + (["postcopy-ram"] if postcopy else [])
        for side in (source, target):
            side("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in names])
            if "multifd" in names:
                side("migrate-set-parameters", **{"multifd-channels": channels})
        source("migrate-set-parameters", **{"max-bandwidth": bandwidth or (1 << 20 if postcopy else 1 << 30)})
        if postcopy:
            source("migrate-set-parameters", **{"max-postcopy-bandwidth": 2 << 20})
        target("migrate-incoming", uri=f"unix:{folder}/in")
        relay = Relay(f"{outside}/out", f"{outside}/in")
        time.sleep(0.3)
        source("migrate", uri=f"unix:{folder}/out")
        if postcopy:
            source.until("active")
            time.sleep(0.2)
            source("migrate-start-postcopy")
        source.until("pre-switchover")
        source("migrate-continue", state="pre-switchover")
        streams = [relay]
        if recover:
            source.until("postcopy-active")
            time.sleep(0.3)
            relay.cut()
            source.until("postcopy-paused")
            target.until("postcopy-paused")
            target("migrate-recover", uri=f"unix:{folder}/in2")
            streams.append(Relay(f"{outside}/out2", f"{outside}/in2"))
            source("migrate-set-parameters", **{"max-postcopy-bandwidth": 1 << 24})
            source("migrate", uri=f"unix:{folder}/out2", resume=True)
        source.until("completed")
        target.until("completed")
        time.sleep(0.3)
        for part, relay in enumerate(streams):
            for number, stream in enumerate(relay.streams):
                if not stream:
                    continue
                stage = "resumed-" if part else ""
                with open(f"{out}/{name}.{stage}{number}.gz", "wb") as file:
                    file.write(gzip.compress(bytes(stream), 9, mtime=0))
                print(f"  {name}.{stage}{number}: {len(stream)} bytes, begins {bytes(stream[:4]).hex()}")
    except Exception:
        for side in ("source", "target"):
            print(open(f"{outside}/{side}.log").read())
        raise
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(outside, ignore_errors=True)


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    only = [argument for argument in sys.argv[2:] if "=" not in argument]
    for argument in sys.argv[2:]:
        if argument in only:
            continue
        label, command = argument.split("=", 1)
        command = shlex.split(command)
        newest = f"pc-i440fx-{label}"
        def one(name, *rest, **more):
            if only and name not in only:
                return
            # A small migration may be over before it is seen to be in post-copy, or break a little too well.
            for _ in range(4):
                print(f"{label} {name}", flush=True)
                try:
                    return migrate(command, out, f"{label}-{name}", *rest, **more)
                except (RuntimeError, OSError) as error:
                    print(f"  again: {error}", flush=True)
            sys.exit("it never worked")
        one("pre-copy", newest)
        one("multifd", newest, ["multifd"])
        one("preempt", newest, ["postcopy-preempt"], postcopy=True)
        one("recovery", newest, ["postcopy-preempt"], postcopy=True, recover=True)
        if label not in ("7.2", "10.0"):
            one("multifd-preempt", newest, ["multifd", "postcopy-preempt"], postcopy=True, bandwidth=1 << 19)
            one("multifd-recovery", newest, ["multifd", "postcopy-preempt"], postcopy=True, recover=True,
                bandwidth=1 << 19)
        if label != "7.2":
            one("old-machine-multifd", "pc-i440fx-7.2", ["multifd"])
            hotplug = ["-object", "memory-backend-ram,id=vm0,size=128M", "-device",
                       "virtio-mem-pci,memdev=vm0,requested-size=0"]
            one("virtio-mem", newest, devices=hotplug)
            one("virtio-mem-preempt", newest, ["postcopy-preempt"], postcopy=True, devices=hotplug)
            one("xbzrle", newest, ["xbzrle"], bandwidth=1 << 20)


main()
