# A small BERT from nothing, on the CPU:  docker build -t nemo-bert . && docker run --rm nemo-bert
# Your own text, and what comes of it:    docker run --rm -v "$PWD:/work" nemo-bert pretrain --train_data my_text.txt ...
FROM python:3.11-slim

# The fast step compiles its kernels for the processor that it finds itself on.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

# With PyPI's own torch it runs on GPUs too: --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nemo nemo
RUN pip install --no-cache-dir --extra-index-url $TORCH_INDEX --constraint constraints.txt .

RUN useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
ENTRYPOINT ["nemo-bert"]
CMD ["demo"]
