# sen-bench on the CPU. Build it in a clone: docker build -t sen-bench .
# Use it: docker run --rm -v "$PWD:/work" -v sen-bench-cache:/cache sen-bench run prototypes --block capsule
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
      -c /src/constraints.txt "/src[dask,tensorboard,tune]" && rm -r /src
ENV SEN_BENCH_CACHE=/cache
WORKDIR /work
ENTRYPOINT ["sen-bench"]
