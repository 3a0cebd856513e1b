"""What `pointsman traffic` plays: its questions, how they are drawn, who asks them, what is seen of it."""
