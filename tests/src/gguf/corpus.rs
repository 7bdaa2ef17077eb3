//! The text whose word pairs become the model. Simple words, no quotes, every sentence ends with a mark.
//!
//! The smallest model has 255 places for different words and marks; a test watches that. The most
//! frequent pairs make up the answer at temperature 0; a test beside [`super::bigram`] watches that it is a sentence.

/// The text.
pub(super) const CORPUS: &str = "
The llama is happy to help the little server answer every question with a smile.
The little server answers every question with a kind word, and it is happy to learn something new every day.
The llama likes warm sun, green grass and clear water. The server likes a small model and a quiet room.
One morning the llama walks up the hill and looks at the sky. One morning the little server wakes up and loads its model.
Good morning, little server! How do you feel today? I feel fine, thank you, dear llama. What do you want to do today?
I want to help the little bird. I want to help the little server answer every question with a smile.
You can ask me about the hill, the river and the sky. It is good to help a friend.
A model is a big table of numbers. A server reads the numbers and writes one word after another.
When the server is tired, the llama sings a song. When the llama is hungry, the server finds fresh grass.
Night comes and the stars are bright. The llama is happy and sleeps near the warm server, and the fans make a soft sound.
Somebody knocks at the door. It is a young bird with a question. Can you tell me a story? Yes, of course!
Long ago a llama met a server by the river. They were both alone, so they became friends.
Now they work together every day, and nobody is alone. Is that not a good story? Yes, it is a very good story!
The bird is happy to hear it and flies home. Tomorrow it will come back with another question.
The llama and the little server answer every question with a smile, again and again.
You can start a model, stop a model and start it again. It is easy, and it takes only a moment.
Please wait while the model loads. Then ask whatever you like. I am happy to help the little llama and you.
";
