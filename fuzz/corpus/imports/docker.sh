docker run --gpus all -v /m:/models -e LLAMA_ARG_CTX_SIZE=4096 ghcr.io/ggml-org/llama.cpp:server -m /models/x.gguf --port 8000
