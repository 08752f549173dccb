"""Reading a topic model: its words, its documents, its topics in time and on a map, and which of them are luck."""

from probseq.topics.agreement import TopicAgreement, topic_agreement
from probseq.topics.beside import beside_likelihood
from probseq.topics.coherence import diversity, npmi_coherence
from probseq.topics.documents import documents_by_topic, has_topics, topic_shares, topics_over_time
from probseq.topics.layout import topic_distances, topic_map
from probseq.topics.reading import TopicReading, read_corpus_topics, read_topics
from probseq.topics.words import top_words, word_scores

__all__ = [
    "TopicAgreement",
    "TopicReading",
    "beside_likelihood",
    "diversity",
    "documents_by_topic",
    "has_topics",
    "npmi_coherence",
    "read_corpus_topics",
    "read_topics",
    "top_words",
    "topic_agreement",
    "topic_distances",
    "topic_map",
    "topic_shares",
    "topics_over_time",
    "word_scores",
]
