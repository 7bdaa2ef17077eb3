CUDA_VISIBLE_DEVICES=1 nohup ./llama-server -m ~/x.gguf -c 8192 --lora "a b",c -ngl 99 \
 --host 0.0.0.0 --port 8080 --jinja > log.txt 2>&1 &
